"""What watches over a run: callbacks that know no task."""

from project.safeguards.averaging import EMA
from project.safeguards.checkpoints import Checkpoint
from project.safeguards.memory_guard import MemoryGuard
from project.safeguards.stopping import EarlyStopping

__all__ = ["EMA", "Checkpoint", "EarlyStopping", "MemoryGuard"]
