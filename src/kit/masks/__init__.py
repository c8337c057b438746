"""Images with masks: augmentation, losses, pictures, prediction files and the exported module."""

from kit.masks.augment import RandomScaleCrop
from kit.masks.losses import CrossEntropy, Dice, Focal

__all__ = ["CrossEntropy", "Dice", "Focal", "RandomScaleCrop"]
