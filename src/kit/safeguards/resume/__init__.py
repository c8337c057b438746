"""Continue a run exactly as if it had never stopped.

Read `resuming.py` first: its callback saves `last.ckpt` and restores a run from it.
`signals.py` stops a run at the next safe moment after a signal. `writing.py` writes checkpoint files. `restarting.py`
finds and checks the checkpoint for `--resume RUN`. `schedules.py` computes the learning rate schedules again if the
length of a run or its config has changed.
"""
