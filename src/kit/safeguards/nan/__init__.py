"""The guard against losses, gradients and weights that are not finite, and against a loss that diverges.

Read `guard.py` first: it is the callback, and decides. Before each optimizer step it asks `step.py` whether the loss
and the gradients are finite; if not, `step.py` skips the step, as if its batch did not exist. `step.py` also detects a
finite loss that stays far above its median. If bad steps go on, `rollback.py` restores the last good state and lowers
the learning rate. `report.py` tells the user what was wrong and what to try.
"""
