"""The guard for batches that do not fit into memory.

Read `guard.py` first: it is the callback, and replaces the training step and the evaluation of a task by methods that
go over parts of a batch once memory has run out. `training.py` has the replacements for training. `micro_batches.py`
computes a training step over parts with the gradient of the whole batch, and `batches.py` divides a batch.
`kit.ground.out_of_memory` finds how many samples fit.
"""
