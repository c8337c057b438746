"""Segmentation: one label for each pixel."""

from project.segmentation.data import DigitMasks, MaskFolder
from project.segmentation.model import CnnUnet
from project.segmentation.task import Segmenter

__all__ = [
    "CnnUnet",
    "DigitMasks",
    "MaskFolder",
    "Segmenter",
]
