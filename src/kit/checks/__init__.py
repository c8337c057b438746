"""What is wrong with the data, before training."""

from kit.ground.faults import Fault

__all__ = ["Fault"]
