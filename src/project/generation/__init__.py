"""Generation: images made from noise."""

from project.generation.data import Digits, ImageFolder, TorchvisionDataset
from project.generation.flow import Euler, Heun
from project.generation.model import UNet
from project.generation.task import Generator

__all__ = [
    "Digits",
    "Euler",
    "Generator",
    "Heun",
    "ImageFolder",
    "TorchvisionDataset",
    "UNet",
]
