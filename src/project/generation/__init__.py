"""Images made out of noise, and images painted in a style."""

from project.generation.data import Digits, ImageFolder, Photos, TorchvisionDataset
from project.generation.flow import Euler, Heun
from project.generation.model import UNet
from project.generation.style_model import StyleNet
from project.generation.style_task import Stylizer
from project.generation.task import Generator

__all__ = [
    "Digits",
    "Euler",
    "Generator",
    "Heun",
    "ImageFolder",
    "Photos",
    "StyleNet",
    "Stylizer",
    "TorchvisionDataset",
    "UNet",
]
