"""What is written: a model with its preprocessing, from an image of any size on."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from project.pipeline import Preprocessing
from project.pipeline.decode import PADDING, resize

# A height and width: numbers, or what torch knows of them while it records (SymInt, or a tensor of no dimension).
Size = tuple[Any, Any]


class Graph(nn.Module):
    """uint8 [B H W C] to the outputs of a task's `exported()`.

    The channels stand last, as in the arrays of PIL, OpenCV and any decoder: `np.asarray(image)[None]` is an input.

    Args:
        preprocessing: the model's; done as `Preprocessing.read` does it.
        answer: the task's, see `project.exporting.protocol`.
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
            pixels = _resized(pixels, area)
            if self.keep_aspect:
                around = (0, self.canvas[1] - area[1], 0, self.canvas[0] - area[0])
                pixels = F.pad(pixels, around, value=PADDING)
            # Nothing but the number of images is open from here.
            pixels = pixels.reshape(-1, self.scale.shape[1], *self.canvas)
        return self.answer(pixels.float() * self.scale + self.shift, size, area)


def fitted(inner: Size, outer: tuple[int, int]) -> Size:
    """`project.pipeline.decode.fit` for an `inner` that is known when the graph runs; in 64 bits, as there."""
    if isinstance(inner[0], Tensor):
        sides = torch.stack(inner).double()
        factor = (torch.tensor(outer, dtype=torch.double) / sides).min()
        height, width = (sides * factor).round().clamp(min=1).long().unbind()
        return height, width
    factor = torch.sym_min(outer[0] / inner[0], outer[1] / inner[1])
    return torch.sym_max(1, round(inner[0] * factor)), torch.sym_max(1, round(inner[1] * factor))


def _resized(pixels: Tensor, size: Size) -> Tensor:
    if torch.onnx.is_in_onnx_export():
        sides = [side if isinstance(side, Tensor) else torch.tensor(side) for side in size]
        return OnnxResize.apply(pixels, torch.stack(sides))
    planes = pixels.contiguous(memory_format=torch.channels_last)
    return F.interpolate(planes, size, mode="bilinear", antialias=True)


class OnnxResize(torch.autograd.Function):
    """ONNX's own antialiased `Resize` (since opset 18), for which torch's exporter knows no operation.

    On uint8 and with `exclude_outside`, onnxruntime's is PIL's method, as torch's is: of 8-bit pixels few differ, by 1.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, size: Tensor) -> Tensor:
        height, width = size.tolist()
        return torch.stack([resize(image, (height, width)) for image in pixels])

    @staticmethod
    def symbolic(g: Any, pixels: Any, size: Any) -> Any:
        shape = g.op("Shape", pixels, start_i=0, end_i=2)
        none = g.op("Constant", value_t=torch.tensor([], dtype=torch.float))
        sizes = g.op("Concat", shape, size, axis_i=0)
        resized = g.op(
            "Resize",
            pixels,
            none,
            none,
            sizes,
            mode_s="linear",
            antialias_i=1,
            coordinate_transformation_mode_s="half_pixel",
            exclude_outside_i=1,
        )
        return resized.setType(pixels.type().with_sizes([None, None, None, None]))


def example(preprocessing: Preprocessing, images: int, seed: int = 0) -> Tensor:
    """Noise to record a graph with, uint8 [B H W C], of a size that no net's stride divides."""
    height, width = preprocessing.size or (131, 197)
    shape: Sequence[int] = (images, height + 13, width + 29, preprocessing.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
