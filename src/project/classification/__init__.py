"""Classification: one label for each image."""

from project.classification.data import Csv, Digits, ImageFolder, TorchvisionDataset
from project.classification.model import CNN, TextbookCNN
from project.classification.task import Classifier

__all__ = [
    "CNN",
    "Classifier",
    "Csv",
    "Digits",
    "ImageFolder",
    "TextbookCNN",
    "TorchvisionDataset",
]
