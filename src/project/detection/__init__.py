"""Object detection: a box and a label for each object."""

from project.detection.data import BoxFolder, DigitScenes
from project.detection.model import CnnFcos
from project.detection.task import Detector

__all__ = ["BoxFolder", "CnnFcos", "Detector", "DigitScenes"]
