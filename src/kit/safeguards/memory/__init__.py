"""The guard for batches that do not fit into memory.

Read `guard.py` first: it is the callback, and replaces the steps of a task by steps that go over parts of a batch once
memory has run out. `micro_batches.py` computes a training step over parts with the gradient of the whole batch.
`parts.py` splits batches and joins outputs. `sizes.py` remembers how many samples fit.
"""
