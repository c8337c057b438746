"""Images with a class for each pixel.

`augmentation` and `losses` are for training, and `evaluation` computes the metrics. `predictions` has what a trained
segmenter gives: masks of the original images, the files of predictions, the picture and the module to export. `scenes`
generates images.
"""

from kit.masks.augmentation import RandomScaleCrop
from kit.masks.losses import CrossEntropy, Dice, Focal

__all__ = ["CrossEntropy", "Dice", "Focal", "RandomScaleCrop"]
