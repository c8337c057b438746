"""Images with boxes.

`targets` prepares the boxes of an image for augmentation and for a batch. `augmentation` changes images together with
their boxes. `evaluation` computes the metrics. `predictions` converts boxes to pixels of the original image, and
writes, draws and exports them. `scenes` generates images.
"""

from kit.boxes.augmentation import Zoom

__all__ = ["Zoom"]
