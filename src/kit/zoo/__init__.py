"""Nets of other libraries, one class for each library and task.

`loading` creates a net of torchvision by its name and loads its weights.
"""

from kit.zoo.classification import TimmNet, TorchvisionNet
from kit.zoo.detection import TorchvisionDetector
from kit.zoo.segmentation import SmpNet, TorchvisionSegmenter

__all__ = ["SmpNet", "TimmNet", "TorchvisionDetector", "TorchvisionNet", "TorchvisionSegmenter"]
