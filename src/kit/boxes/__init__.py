"""Images with boxes.

`targets` holds the boxes of an image and `augmentation` changes them. `average_precision` and `evaluation` compute the
metrics. `predictions` has what a trained detector gives: boxes in the original image, the file of predictions, the
picture and the module to export. `scenes` generates images.
"""

from kit.boxes.augmentation import Zoom

__all__ = ["Zoom"]
