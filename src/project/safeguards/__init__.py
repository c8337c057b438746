"""What watches over a run: callbacks that know no task."""

from project.safeguards.averaging import EMA
from project.safeguards.checkpoints import Checkpoint
from project.safeguards.memory_guard import MemoryGuard
from project.safeguards.nan_guard import NanGuard
from project.safeguards.overfitting import Overfitting
from project.safeguards.resuming import ExactResume
from project.safeguards.stopping import EarlyStopping

__all__ = ["EMA", "Checkpoint", "EarlyStopping", "ExactResume", "MemoryGuard", "NanGuard", "Overfitting"]
