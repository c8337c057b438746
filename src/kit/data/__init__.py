"""What every task's data.py stands on: reading, splitting, caching, sampling, batching."""

from kit.data.augment import RandomShift, RandomZoomIn
from kit.data.datamodule import ImageDataModule
from kit.data.preprocessing import Preprocessing
from kit.data.samples import Batch, Files, Indexed, Samples, Tensors

__all__ = [
    "Batch",
    "Files",
    "ImageDataModule",
    "Indexed",
    "Preprocessing",
    "RandomShift",
    "RandomZoomIn",
    "Samples",
    "Tensors",
]
