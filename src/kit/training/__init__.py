"""Optimizers and schedules (`schedule`), fine-tuning (`weights`), averaged weights, and the metric to `monitor`."""

from kit.training.averaging import EMA
from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule

__all__ = ["EMA", "Interval", "Schedule", "WarmupCosine", "optimizer_and_schedule"]
