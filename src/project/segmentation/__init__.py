"""One label a pixel."""

from project.segmentation.augment import RandomScaleCrop
from project.segmentation.data import CocoMasks, DigitMasks, MaskFolder
from project.segmentation.losses import CrossEntropy, Dice, Focal
from project.segmentation.model import CnnUnet, SmpNet, TorchvisionSegmenter
from project.segmentation.task import Segmenter

__all__ = [
    "CnnUnet",
    "CocoMasks",
    "CrossEntropy",
    "Dice",
    "DigitMasks",
    "Focal",
    "MaskFolder",
    "RandomScaleCrop",
    "Segmenter",
    "SmpNet",
    "TorchvisionSegmenter",
]
