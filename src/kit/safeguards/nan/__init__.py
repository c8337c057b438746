"""Protect a run from losses, gradients and weights that are not finite, and from a loss that diverges.

Read `guard.py` first: it is the callback that makes the decisions. `step.py` checks the loss and the gradients before
each optimizer step, skips a bad step, and detects a loss that stays far above its median. `rollback.py` restores the
last good state and lowers the learning rate. `report.py` prints the cause and suggestions.
"""
