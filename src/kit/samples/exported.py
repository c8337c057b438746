"""The modules that the verb `export` writes: of a task that makes images, and of one that paints them."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kit.data import Preprocessing
from kit.samples.noise import noise
from kit.samples.pictures import pixels
from kit.samples.predictions import size_of_samples


class ExportedGenerator(nn.Module):
    """`images`, uint8 [B H W C], of `noise`, Float[B N C H W] normally distributed (N: `noises`), and
    `classes`, Long[B], in which the number of classes means "any". A file's pixels may differ by 1 of 255.

    Each evaluation of the net stands in the file. For attributes see `kit.exporting.protocol`.

    Args:
        sampler: makes images, Float[B C H W] from -1 to 1, out of noise and classes.
        num_classes: K.
        noises: how many images of noise a sample takes.
    """

    task = "generation"
    inputs: ClassVar = {"noise": {0: "batch"}, "classes": {0: "batch"}}
    outputs: ClassVar = {"images": {0: "batch"}}
    one_at_a_time = False
    left_out = ""
    measured = "largest difference of a pixel, of 255,"
    tolerance = 1
    counted = ""

    def __init__(self, sampler: nn.Module, num_classes: int, noises: int) -> None:
        super().__init__()
        self.sampler, self.num_classes, self.noises = sampler, num_classes, noises

    def forward(self, noise: Tensor, classes: Tensor) -> tuple[Tensor]:
        return (pixels(self.sampler(noise, classes).float()).permute(0, 2, 3, 1),)

    def example(self, preprocessing: Preprocessing, count: int) -> tuple[Tensor, Tensor]:
        shape = (self.noises, preprocessing.channels, *size_of_samples(preprocessing))
        return noise(range(count), shape), torch.arange(count) % self.num_classes

    def answer(self, task: Any, noise: Tensor, classes: Tensor) -> Tensor:
        return task.sampler().images(noise, classes, task.device)[0]

    def difference(self, found: Mapping[str, Tensor], predicted: Tensor) -> float:
        return largest_difference(found["images"], predicted)

    def count(self, predicted: Tensor) -> int:
        return 1


class ExportedStylizer(nn.Module):
    """`pictures`, uint8 [B H W C], as large as the images; a file's pixels may differ by 1 of 255.

    The attributes are as `kit.exporting.protocol` says.
    """

    task = "style"
    outputs: ClassVar = {"pictures": {0: "batch", 1: "height", 2: "width"}}
    one_at_a_time = False
    left_out = ""
    measured = "largest difference of a pixel, of 255,"
    tolerance = 1
    counted = ""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, size: tuple[Any, Any], area: tuple[Any, Any]) -> tuple[Tensor]:
        return (pixels(self.net(images).float()).permute(0, 2, 3, 1),)

    def difference(self, found: Mapping[str, Tensor], predicted: Tensor) -> float:
        return largest_difference(found["pictures"], predicted)

    def count(self, predicted: Tensor) -> int:
        return 1


def largest_difference(found: Tensor, predicted: Tensor) -> float:
    """Of uint8 [H W C] and uint8 [C H W]; infinite where the sizes are not the same."""
    predicted = predicted.permute(1, 2, 0)
    if found.shape != predicted.shape:
        return float("inf")
    return float((found.int() - predicted.int()).abs().max())
