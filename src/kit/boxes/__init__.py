"""Images with boxes.

`targets` describes the boxes of an image, and `augmentation` changes them. `average_precision` and `evaluation` compute
the metrics. `predictions` converts boxes to pixels of the original image, and writes, draws and exports them. `scenes`
generates images.
"""

from kit.boxes.augmentation import Zoom

__all__ = ["Zoom"]
