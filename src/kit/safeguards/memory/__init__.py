"""Train on and evaluate batches that do not fit into memory.

Read `guard.py` first: it has the callback, which replaces methods of a task by methods that divide a batch once memory
has run out. `micro_batches.py` divides a batch, and computes a training step in parts, with the gradient of the whole
batch. `kit.ground.memory` finds how many samples fit.
"""
