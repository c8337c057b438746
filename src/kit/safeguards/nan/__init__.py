"""Protect a run from losses, gradients and weights that are not finite, and from a loss that diverges.

An optimizer step is bad if its loss or a gradient is not finite (NaN or infinite).

Read `guard.py` first: it has the callback, which decides what to do at each step. `step.py` finds and skips bad steps,
and detects a loss that stays far above its median. It also takes snapshots of the training state, restores one of them,
and lowers the learning rates. `report.py` prints the cause of a bad step and suggestions.
"""
