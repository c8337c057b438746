"""One label an image."""

from project.classification.data import Csv, Digits, ImageFolder, TorchvisionDataset
from project.classification.model import CNN, TextbookCNN, TimmNet, TorchvisionNet
from project.classification.task import Classifier

__all__ = [
    "CNN",
    "Classifier",
    "Csv",
    "Digits",
    "ImageFolder",
    "TextbookCNN",
    "TimmNet",
    "TorchvisionDataset",
    "TorchvisionNet",
]
