"""Checkpoints from which a run continues exactly as if it had never stopped.

Read `resuming.py` first: it is the callback that saves `last.ckpt` and restores what Lightning does not. `signals.py`
turns signals into a stop at the next safe moment, and `writing.py` writes files that are whole or absent.
`restarting.py` leads from the command `--resume RUN` to the checkpoint. `schedules.py` makes the schedules of a resumed
run anew if its length or its config has changed.
"""
