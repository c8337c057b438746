"""What files of `project.export` answer."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kit.data import Preprocessing
from kit.samples.exported import largest_difference
from kit.samples.pictures import pixels
from project.generation.flow import Solver, guided, noise
from project.generation.predictions import size_of_samples


class ExportedGenerator(nn.Module):
    """`images`, uint8 [B H W C], of `noise`, Float[B N C H W] normally distributed (N: the solver's `noises`), and
    `classes`, Long[B], in which the number of classes means "any". A file's pixels may differ by 1 of 255.

    Steps and guidance are the run's: each evaluation of the net stands in the file. For attributes see
    `kit.exporting.protocol`.
    """

    task = "generation"
    inputs: ClassVar = {"noise": {0: "batch"}, "classes": {0: "batch"}}
    outputs: ClassVar = {"images": {0: "batch"}}
    one_at_a_time = False
    left_out = ""
    measured = "largest difference of a pixel, of 255,"
    tolerance = 1
    counted = ""

    def __init__(self, net: nn.Module, num_classes: int, solver: Solver, guidance: float) -> None:
        super().__init__()
        self.net, self.num_classes, self.solver, self.guidance = net, num_classes, solver, guidance

    def forward(self, noise: Tensor, classes: Tensor) -> tuple[Tensor]:
        made = self.solver(guided(self.net, classes, self.num_classes, self.guidance), noise)
        return (pixels(made.float()).permute(0, 2, 3, 1),)

    def example(self, preprocessing: Preprocessing, count: int) -> tuple[Tensor, Tensor]:
        shape = (self.solver.noises, preprocessing.channels, *size_of_samples(preprocessing))
        return noise(range(count), shape), torch.arange(count) % self.num_classes

    def answer(self, task: Any, noise: Tensor, classes: Tensor) -> Tensor:
        return task.of_noise(noise, classes)[0]

    def difference(self, found: Mapping[str, Tensor], predicted: Tensor) -> float:
        return largest_difference(found["images"], predicted)

    def count(self, predicted: Tensor) -> int:
        return 1
