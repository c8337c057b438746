"""Self-supervised pretraining: learn features from images without labels, as a start for another task."""

from project.pretraining.data import Digits, ImageFolder
from project.pretraining.model import Encoder
from project.pretraining.task import Pretrainer
from project.pretraining.views import RandomViews

__all__ = ["Digits", "Encoder", "ImageFolder", "Pretrainer", "RandomViews"]
