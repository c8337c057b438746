"""Classification: one label, or several, for each image."""

from project.classification.data import Digits, DigitScenes, ImageFolder, TorchvisionDataset
from project.classification.model import CNN, TextbookCNN
from project.classification.multi_label import MultiLabelClassifier
from project.classification.task import Classifier

__all__ = [
    "CNN",
    "Classifier",
    "DigitScenes",
    "Digits",
    "ImageFolder",
    "MultiLabelClassifier",
    "TextbookCNN",
    "TorchvisionDataset",
]
