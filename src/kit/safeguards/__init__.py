"""What watches over a run: callbacks that know no task."""

from kit.safeguards.checkpoints import Checkpoint
from kit.safeguards.memory_guard import MemoryGuard
from kit.safeguards.nan_guard import NanGuard
from kit.safeguards.overfitting import Overfitting
from kit.safeguards.resuming import ExactResume
from kit.safeguards.stopping import EarlyStopping

__all__ = ["Checkpoint", "EarlyStopping", "ExactResume", "MemoryGuard", "NanGuard", "Overfitting"]
