"""What is written: a model with its preprocessing, from an image of any size on."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.data import Preprocessing
from kit.data.decode import PADDING
from kit.exporting import onnx_operations

# A height and width: numbers, or what torch knows of them while it records (SymInt, or a tensor of no dimension).
Size = tuple[Any, Any]
IMAGES = {"images": {0: "batch", 1: "height", 2: "width"}}  # what a file takes, and its open dimensions


class Program(NamedTuple):
    """What an exporter records, by running `module(*example)`.

    exported: what it is of.
    inputs: the names of what it takes, and of their open dimensions by place.
    """

    module: nn.Module
    exported: Any
    inputs: Mapping[str, Mapping[int, str]]
    example: tuple[Tensor, ...]


def program(preprocessing: Preprocessing, exported: Any) -> Program:
    """Of a task's `exported()`, see `kit.exporting.protocol`: from images on, or from what it says itself."""
    if hasattr(exported, "inputs"):
        return Program(exported.eval(), exported, exported.inputs, exported.example(preprocessing, 2))
    inputs, several = IMAGES, 2
    if exported.one_at_a_time:
        inputs, several = {name: {1: "height", 2: "width"} for name in IMAGES}, 1
    return Program(Graph(preprocessing, exported).eval(), exported, inputs, (example(preprocessing, several),))


class Graph(nn.Module):
    """uint8 [B H W C] to the outputs of a task's `exported()`.

    The channels stand last, as in the arrays of PIL, OpenCV and any decoder: `np.asarray(image)[None]` is an input.

    Args:
        preprocessing: the model's; done as `Preprocessing.read` does it.
        answer: the task's, see `kit.exporting.protocol`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing, answer: nn.Module) -> None:
        super().__init__()
        self.canvas: tuple[int, int] | None = preprocessing.size
        self.keep_aspect, self.answer = preprocessing.keep_aspect, answer
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = images.permute(0, 3, 1, 2)
        size: Size = (images.shape[1], images.shape[2])
        area = size
        if self.canvas is not None:
            area = fitted(size, self.canvas) if self.keep_aspect else self.canvas
            pixels = _fit(pixels, area, self.canvas)
        return self.answer(pixels.float() * self.scale + self.shift, size, area)


def fitted(inner: Size, outer: tuple[int, int]) -> Size:
    """`kit.data.decode.fit` for an `inner` that is known when the graph runs; in 64 bits, as there."""
    sides = torch.stack([_number(side) for side in inner])
    factor = (torch.tensor(outer, dtype=torch.double) / sides).min()
    area = (sides * factor).round().clamp(min=1).long()
    if torch.onnx.is_in_onnx_export():
        return area[0], area[1]
    height, width = area[0].item(), area[1].item()
    for side, most in zip((height, width), outer, strict=True):
        torch._check(side >= 1)  # for torch.export, which could not know it
        torch._check(side <= most)
    return height, width


def _number(side: Any) -> Tensor:
    return side.double() if isinstance(side, Tensor) else torch.scalar_tensor(side, dtype=torch.double)


def _fit(pixels: Tensor, area: Size, canvas: tuple[int, int]) -> Tensor:
    """Resized to `area`, and padded to `canvas`."""
    if torch.onnx.is_in_onnx_export():
        sides = [side if isinstance(side, Tensor) else torch.tensor(side) for side in area]
        return onnx_operations.Fit.apply(pixels, torch.stack(sides), canvas)
    channels = pixels.shape[1]
    planes = pixels.expand(-1, max(2, channels), -1, -1)  # of one, torch.export cannot tell the memory format
    planes = planes.contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(planes, area, mode="bilinear", antialias=True)[:, :channels]
    return F.pad(resized, (0, canvas[1] - area[1], 0, canvas[0] - area[0]), value=PADDING)


def example(preprocessing: Preprocessing, images: int, seed: int = 0) -> Tensor:
    """Noise to record a graph with, uint8 [B H W C], of a size that no net's stride divides."""
    height, width = preprocessing.size or (131, 197)
    shape: Sequence[int] = (images, height + 13, width + 29, preprocessing.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
