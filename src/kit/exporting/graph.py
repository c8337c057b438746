"""Put preprocessing and net into one module that exporters can record, from images of any size on.

`Fit` and `Pool` are operations that torch's ONNX exporter lacks.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from kit.data import Preprocessing
from kit.data.decode import PADDING, pad, resize

# A height and width: numbers, or a SymInt or a tensor without dimensions while torch records.
Size = tuple[Any, Any]
IMAGES = {"images": {0: "batch", 1: "height", 2: "width"}}  # a file's input, and its dynamic dimensions


class Program(NamedTuple):
    """What an exporter records, by running `module(*example)`.

    exported: the task's `exported()`.
    inputs: the names of the inputs, and of their dynamic dimensions by index.
    """

    module: nn.Module
    exported: Any
    inputs: Mapping[str, Mapping[int, str]]
    example: tuple[Tensor, ...]


def make_program(preprocessing: Preprocessing, exported: Any) -> Program:
    """Return the program of a task's `exported()`, with images as input, or with inputs of its own if it has any."""
    if hasattr(exported, "inputs"):
        return Program(exported.eval(), exported, exported.inputs, exported.example(preprocessing, 2))
    inputs, batch_size = IMAGES, 2
    if exported.one_at_a_time:
        inputs, batch_size = {name: {1: "height", 2: "width"} for name in IMAGES}, 1
    example = (noise_images(preprocessing, batch_size),)
    return Program(Graph(preprocessing, exported).eval(), exported, inputs, example)


class Graph(nn.Module):
    """Map uint8 [B H W C] to the outputs of a task's `exported()`.

    Channels are last, as in the arrays of PIL and OpenCV: `np.asarray(image)[None]` is an input.

    Args:
        preprocessing: that of the model; it is done as in `Preprocessing.read`.
        exported: the task's `exported()`: see `kit.exporting.protocol`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, preprocessing: Preprocessing, exported: nn.Module) -> None:
        super().__init__()
        self.canvas: tuple[int, int] | None = preprocessing.size
        self.keep_aspect = preprocessing.keep_aspect
        self.answer = exported  # the names of weights in exported files begin with this name
        mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (preprocessing.mean, preprocessing.std))
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        pixels = images.permute(0, 3, 1, 2)
        size: Size = (images.shape[1], images.shape[2])
        area = size
        if self.canvas is not None:
            area = fitted_area(size, self.canvas) if self.keep_aspect else self.canvas
            pixels = _fit(pixels, area, self.canvas)
        return self.answer(pixels.float() * self.scale + self.shift, size, area)


def fitted_area(inner: Size, outer: tuple[int, int]) -> Size:
    """Do the same as `kit.data.decode.fitted_size`, for an `inner` that is known only when the graph runs."""
    sides = torch.stack([_as_double(side) for side in inner])
    factor = (torch.tensor(outer, dtype=torch.double) / sides).min()
    area = (sides * factor).round().clamp(min=1).long()
    if torch.onnx.is_in_onnx_export():
        return area[0], area[1]
    height, width = area[0].item(), area[1].item()
    for side, limit in zip((height, width), outer, strict=True):
        torch._check(side >= 1)  # torch.export needs these limits
        torch._check(side <= limit)
    return height, width


def _as_double(side: Any) -> Tensor:
    return side.double() if isinstance(side, Tensor) else torch.scalar_tensor(side, dtype=torch.double)


def _fit(pixels: Tensor, area: Size, canvas: tuple[int, int]) -> Tensor:
    """Resize images to `area`, and pad them to `canvas`."""
    if torch.onnx.is_in_onnx_export():
        sides = [side if isinstance(side, Tensor) else torch.tensor(side) for side in area]
        return Fit.apply(pixels, torch.stack(sides), canvas)
    channels = pixels.shape[1]
    planes = pixels.expand(-1, max(2, channels), -1, -1)  # torch.export cannot tell the memory format of a single one
    planes = planes.contiguous(memory_format=torch.channels_last)
    resized = F.interpolate(planes, area, mode="bilinear", antialias=True)[:, :channels]
    return F.pad(resized, (0, canvas[1] - area[1], 0, canvas[0] - area[0]), value=PADDING)


def noise_images(preprocessing: Preprocessing, batch_size: int, seed: int = 0) -> Tensor:
    """Return noise to record a graph with, uint8 [B H W C], of a size that no net's stride divides."""
    height, width = preprocessing.size or (131, 197)
    shape: Sequence[int] = (batch_size, height + 13, width + 29, preprocessing.channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


class Fit(torch.autograd.Function):
    """Resize uint8 [B C H W] to `area`, Long[2], and pad it at the right and bottom to uint8 [B C canvas].

    ONNX's antialiased `Resize` (since opset 18), on uint8 and with `exclude_outside`, uses PIL's method, as torch does.
    The pixels of onnxruntime differ by at most 2, where halves are rounded.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, area: Tensor, canvas: tuple[int, int]) -> Tensor:
        height, width = area.tolist()
        return torch.stack([pad(resize(image, (height, width)), canvas) for image in pixels])

    @staticmethod
    def symbolic(g: Any, pixels: Any, area: Any, canvas: tuple[int, int]) -> Any:
        def constant(*values: int) -> Any:
            return g.op("Constant", value_t=torch.tensor(values))

        outer = g.op("Shape", pixels, start_i=0, end_i=2)
        none = g.op("Constant", value_t=torch.tensor([], dtype=torch.float))
        resized = g.op(
            "Resize",
            pixels,
            none,
            none,
            g.op("Concat", outer, area, axis_i=0),
            mode_s="linear",
            antialias_i=1,
            coordinate_transformation_mode_s="half_pixel",
            exclude_outside_i=1,
        )
        padding = g.op("Concat", constant(0, 0, 0, 0, 0, 0), g.op("Sub", constant(*canvas), area), axis_i=0)
        grey = g.op("Constant", value_t=torch.tensor(PADDING, dtype=torch.uint8))
        return g.op("Pad", resized, padding, grey)


class Pool(nn.Module):
    """`nn.AdaptiveAvgPool2d` as products with matrices, as the exporter supports only sizes that divide the input's.

    The matrices are for the size of the input at the time of recording.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        rows, columns = (_mean_matrix(int(side), size) for side, size in zip(maps.shape[-2:], self.size, strict=True))
        return rows @ maps @ columns.T


def replace_pools(net: nn.Module) -> nn.Module:
    """Replace each `nn.AdaptiveAvgPool2d` with more than one output value in the net by `Pool`, and return the net."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = _pair(module.output_size)
            if size != (1, 1) and None not in size:
                net.set_submodule(name, Pool(size))
    return net


def _mean_matrix(side: int, size: int) -> Tensor:
    """Return the matrix that pools `side` values to `size` means, Float[size side]."""
    return F.adaptive_avg_pool1d(torch.eye(side)[None], size)[0].T
