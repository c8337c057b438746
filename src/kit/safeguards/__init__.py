"""Callbacks that protect a run of any task."""

from kit.safeguards.checkpoints import Checkpoint, EarlyStopping
from kit.safeguards.memory.guard import MemoryGuard
from kit.safeguards.nan.guard import NanGuard
from kit.safeguards.overfitting.callback import Overfitting
from kit.safeguards.resume.resuming import ExactResume

__all__ = ["Checkpoint", "EarlyStopping", "ExactResume", "MemoryGuard", "NanGuard", "Overfitting"]
