"""The modules that `export` writes to files, for tasks that generate or paint images."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kit.data import Preprocessing
from kit.samples.images import noise, pixels
from kit.samples.predictions import size_of_samples
from kit.task import ExportedModule


class ExportedImages(ExportedModule):
    """A module whose output is images, uint8 [B H W C]. An exported file's pixels may differ from PyTorch's by 1."""

    difference_name = "largest difference of a pixel (0 to 255)"
    tolerance = 1

    def difference(self, outputs: Mapping[str, Tensor], predicted: Tensor) -> float:
        """Return the largest difference between an output [H W C] and a prediction [C H W]; inf if sizes differ."""
        (images,), predicted = outputs.values(), predicted.permute(1, 2, 0)
        if images.shape != predicted.shape:
            return float("inf")
        return float((images.int() - predicted.int()).abs().max())


class ExportedGenerator(ExportedImages):
    """Map `noise`, standard normal Float[B N C H W], and `classes`, Long[B], to `images`, uint8 [B H W C].

    Class K means that no class is given. An exported file contains all steps from noise to images.

    Args:
        sampler: maps noise and classes to images from -1 to 1, Float[B C H W].
        num_classes: K.
        num_noises: N, the number of noise images for each sample.
    """

    task = "generation"
    inputs: ClassVar = {"noise": {0: "batch"}, "classes": {0: "batch"}}
    outputs: ClassVar = {"images": {0: "batch"}}

    def __init__(self, sampler: nn.Module, num_classes: int, num_noises: int) -> None:
        super().__init__(sampler)
        self.num_classes, self.num_noises = num_classes, num_noises

    def forward(self, noise: Tensor, classes: Tensor) -> tuple[Tensor]:
        return (pixels(self.net(noise, classes).float()).permute(0, 2, 3, 1),)

    def example(self, preprocessing: Preprocessing, count: int) -> tuple[Tensor, Tensor]:
        shape = (self.num_noises, preprocessing.channels, *size_of_samples(preprocessing))
        return noise(range(count), shape), torch.arange(count) % self.num_classes

    def expected(self, task: Any, noise: Tensor, classes: Tensor) -> Tensor:
        return task.make_sampler().images(noise, classes, task.device)[0]


class ExportedStylizer(ExportedImages):
    """Map images, Float[B C H W], to painted `pictures` of the same size, uint8 [B H W C]."""

    task = "style"
    outputs: ClassVar = {"pictures": {0: "batch", 1: "height", 2: "width"}}

    def forward(self, images: Tensor, size: tuple[Any, Any], content_size: tuple[Any, Any]) -> tuple[Tensor]:
        return (pixels(self.net(images).float()).permute(0, 2, 3, 1),)
