"""Nets of other libraries, one class for each library and task.

`loading`, `timm_models` and `transformers_models` create a net by its name and load its weights.
"""

from kit.zoo.classification import TimmNet, TorchvisionNet
from kit.zoo.detection import TorchvisionDetector
from kit.zoo.segmentation import SmpNet, TorchvisionSegmenter
from kit.zoo.timm_detection import TimmDetector
from kit.zoo.transformers_detection import TransformersDetector
from kit.zoo.transformers_segmentation import TransformersSegmenter

__all__ = [
    "SmpNet",
    "TimmDetector",
    "TimmNet",
    "TorchvisionDetector",
    "TorchvisionNet",
    "TorchvisionSegmenter",
    "TransformersDetector",
    "TransformersSegmenter",
]
