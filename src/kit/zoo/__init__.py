"""Nets of other libraries, one class each."""

from kit.zoo.classification import TimmNet, TorchvisionNet
from kit.zoo.detection import TorchvisionDetector
from kit.zoo.segmentation import SmpNet, TorchvisionSegmenter

__all__ = ["SmpNet", "TimmNet", "TorchvisionDetector", "TorchvisionNet", "TorchvisionSegmenter"]
