"""Train on and evaluate batches that do not fit into memory.

Read `guard.py` first: this callback replaces a task's training step and evaluation by methods that divide a batch once
memory has run out. `training.py` has the methods for training. `micro_batches.py` computes a training step in parts,
with the gradient of the whole batch. `batches.py` divides a batch. `kit.ground.out_of_memory` finds how many samples
fit.
"""
