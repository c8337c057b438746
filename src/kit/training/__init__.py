"""Optimizers and schedules, fine-tuning (`weights`), averaged weights (`averaging`), and the monitored metric."""

from kit.training.averaging import EMA
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule

__all__ = ["EMA", "Interval", "Schedule", "WarmupCosine", "optimizer_and_schedule"]
