"""Images with boxes: targets, augmentation, average precision, pictures, prediction files and the exported module."""

from kit.boxes.augment import Zoom

__all__ = ["Zoom"]
