"""Augmentation that torchvision has not: a random scale and a crop, of image and mask alike."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from kit.data.decode import PADDING, resize
from kit.formats.masks.masks import IGNORED


class RandomScaleCrop(v2.Transform):
    """Enlarge or shrink by a random factor and cut a random part of `size` out, in one step.

    Only that part is resized. If the image is too small for it, the rest is grey in the image and ignored in the mask.

    Args:
        size: height and width of the part; by default those of the image.
        scale: the smallest and the largest factor; drawn evenly between their logarithms.
    """

    def __init__(self, size: tuple[int, int] | None = None, scale: tuple[float, float] = (0.75, 1.5)) -> None:
        super().__init__()
        self.size, self.scale = None if size is None else tuple(size), tuple(scale)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        image = next(value for value in flat_inputs if isinstance(value, tv_tensors.Image))
        draws = torch.rand(3).tolist()
        factor = self.scale[0] * (self.scale[1] / self.scale[0]) ** draws[0]
        size = self.size or image.shape[-2:]
        spans = [
            _span(have, want, factor, draw) for have, want, draw in zip(image.shape[-2:], size, draws[1:], strict=True)
        ]
        return {"rows": spans[0], "columns": spans[1], "size": size}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, (tv_tensors.Image, tv_tensors.Mask)):
            return inpt
        (top, bottom, first_row, height), (left, right, first_column, width) = params["rows"], params["columns"]
        part = inpt.as_subclass(Tensor)[..., top:bottom, left:right]
        is_mask = isinstance(inpt, tv_tensors.Mask)
        if part.shape[-2:] != (height, width):
            # "nearest" alone takes the pixel's corner for its middle, which moves the mask against the image.
            if is_mask:
                part = F.interpolate(part[None, None], (height, width), mode="nearest-exact")[0, 0]
            else:
                part = resize(part, (height, width))
        around = (
            first_column,
            params["size"][1] - width - first_column,
            first_row,
            params["size"][0] - height - first_row,
        )
        if any(around):
            part = F.pad(part, around, value=IGNORED if is_mask else PADDING)
        return tv_tensors.wrap(part, like=inpt)


def _span(have: int, want: int, factor: float, draw: float) -> tuple[int, int, int, int]:
    """Along one side: the source's first and end pixel, and where it comes to lie, and how long it is then."""
    window = max(1, round(want / factor))
    start = round(draw * (have - window))  # negative where the image is shorter than the window
    first, end = max(0, start), min(have, start + window)
    if (first, end) == (start, start + window):
        return first, end, 0, want
    length = min(want, max(1, round((end - first) * want / window)))
    return first, end, min(want - length, round((first - start) * want / window)), length
