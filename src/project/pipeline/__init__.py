"""What every task's data.py stands on: reading, splitting, caching, sampling, batching."""

from project.pipeline.datamodule import ImageDataModule
from project.pipeline.preprocessing import Preprocessing
from project.pipeline.samples import Batch, Files, Indexed, Samples, Tensors

__all__ = ["Batch", "Files", "ImageDataModule", "Indexed", "Preprocessing", "Samples", "Tensors"]
