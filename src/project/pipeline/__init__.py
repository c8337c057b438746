"""What every task's data.py stands on: reading, splitting, caching, sampling, batching."""

from project.pipeline.augment import RandomShift, RandomZoomIn
from project.pipeline.datamodule import ImageDataModule
from project.pipeline.preprocessing import Preprocessing
from project.pipeline.samples import Batch, Files, Indexed, Samples, Tensors

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
