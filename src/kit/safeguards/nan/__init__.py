"""The guard against losses, gradients and weights that are not finite, and against a loss that runs away.

Read `guard.py` first: it is the callback, and decides. Before each step of the optimizer it asks `step.py` whether the
loss and the gradients are finite; if they are not, `step.py` takes the step out, as if its batch had never been.
`signs.py` watches numbers that are finite: a loss far above its median, and parameters that no gradient reaches. If bad
steps do not cease, `rollback.py` restores the last good state and lowers the learning rates. `report.py` tells the user
what was wrong and what to try; `replay.py` finds that out by repeating the step on a copy of the model.
"""
