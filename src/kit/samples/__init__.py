"""Images that a model makes: how they are judged, their pictures and files."""

from kit.samples.data import Centred
from kit.samples.features import ClassifierFeatures, TorchvisionFeatures

__all__ = ["Centred", "ClassifierFeatures", "TorchvisionFeatures"]
