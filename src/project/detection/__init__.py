"""Object detection: a box and a label for each object."""

from project.detection.data import Coco, DigitScenes, Voc, Yolo
from project.detection.model import CnnFcos
from project.detection.task import Detector

__all__ = ["CnnFcos", "Coco", "Detector", "DigitScenes", "Voc", "Yolo"]
