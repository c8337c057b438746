"""Boxes around the objects in an image, and what they are."""

from project.detection.augment import Zoom
from project.detection.data import Coco, DigitScenes, Voc, Yolo
from project.detection.model import CnnFcos, TorchvisionDetector
from project.detection.task import Detector

__all__ = ["CnnFcos", "Coco", "Detector", "DigitScenes", "TorchvisionDetector", "Voc", "Yolo", "Zoom"]
