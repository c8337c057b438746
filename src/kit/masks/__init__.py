"""Images with a class for each pixel.

`augmentation` and `losses` are for training, and `evaluation` computes the metrics. `predictions` predicts large images
in windows, and writes, draws and exports predicted masks. `scenes` generates images.
"""

from kit.masks.augmentation import RandomScaleCrop
from kit.masks.losses import CrossEntropy, Dice, Focal

__all__ = ["CrossEntropy", "Dice", "Focal", "RandomScaleCrop"]
