"""What is wrong with the data, before training."""

from project.checks.faults import Fault

__all__ = ["Fault"]
