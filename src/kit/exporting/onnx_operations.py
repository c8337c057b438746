"""Operations that ONNX has, or that can be put together of its own, but torch's exporter does not know."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.utils import _pair

from kit.data.decode import PADDING, padded, resize


class Fit(torch.autograd.Function):
    """uint8 [B C H W] to uint8 [B C canvas]: resized to `area`, Long[2], and padded at the right and bottom.

    ONNX's antialiased `Resize` (since opset 18), on uint8 and with `exclude_outside`, is PIL's method, as torch's is:
    where onnxruntime's pixels differ at all, it is by 1, or 2, where halves are rounded.
    """

    @staticmethod
    def forward(ctx: Any, pixels: Tensor, area: Tensor, canvas: tuple[int, int]) -> Tensor:
        height, width = area.tolist()
        return torch.stack([padded(resize(image, (height, width)), canvas) for image in pixels])

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
        around = g.op("Concat", constant(0, 0, 0, 0, 0, 0), g.op("Sub", constant(*canvas), area), axis_i=0)
        grey = g.op("Constant", value_t=torch.tensor(PADDING, dtype=torch.uint8))
        return g.op("Pad", resized, around, grey)


class Pool(nn.Module):
    """`nn.AdaptiveAvgPool2d` as products with matrices of means: the exporter takes it to divisors of a map alone.

    The matrices are those of the map's size while the graph is recorded.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, maps: Tensor) -> Tensor:
        rows, columns = (_means(int(own), wanted) for own, wanted in zip(maps.shape[-2:], self.size, strict=True))
        return rows @ maps @ columns.T


def with_pools(net: nn.Module) -> nn.Module:
    """The net with `Pool` in the place of what pools to more than one value."""
    for name, module in list(net.named_modules()):
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = _pair(module.output_size)
            if size != (1, 1) and None not in size:
                net.set_submodule(name, Pool(size))
    return net


def _means(side: int, wanted: int) -> Tensor:
    """Float[wanted side]."""
    return F.adaptive_avg_pool1d(torch.eye(side)[None], wanted)[0].T
