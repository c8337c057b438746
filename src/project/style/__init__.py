"""Style transfer: images painted in the style of one image."""

from project.style.data import Photos
from project.style.model import StyleNet
from project.style.task import Stylizer

__all__ = ["Photos", "StyleNet", "Stylizer"]
