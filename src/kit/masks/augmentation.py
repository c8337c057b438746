"""Augment images together with their masks, by a transform that torchvision lacks."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from kit.data.decode import PADDING, ImageSize, resize
from kit.formats.masks.masks import IGNORED
from kit.ground.ranges import PositivePair


class RandomScaleCrop(v2.Transform):
    """Scale an image and its mask by a random factor and crop them at a random position, in one step.

    Only the crop is resized. If the scaled image is smaller than the crop, the image is padded with grey, and the mask
    with 255, which is ignored.

    Args:
        size: the height and width of the crop; by default those of the image.
        scale: the smallest and the largest factor. The logarithm of the factor is uniform.
    """

    def __init__(self, size: ImageSize | None = None, scale: PositivePair = (0.75, 1.5)) -> None:
        super().__init__()
        self.size, self.scale = None if size is None else tuple(size), tuple(scale)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        image = next(value for value in flat_inputs if isinstance(value, tv_tensors.Image))
        uniform, *positions = torch.rand(3).tolist()
        factor = self.scale[0] * (self.scale[1] / self.scale[0]) ** uniform
        sides = zip(image.shape[-2:], self.size or image.shape[-2:], positions, strict=True)
        rows, columns = (_crop_side(length, new_length, factor, position) for length, new_length, position in sides)
        return {"rows": rows, "columns": columns}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, (tv_tensors.Image, tv_tensors.Mask)):
            return inpt
        (top, bottom, above, height, below), (left, right, before, width, after) = params["rows"], params["columns"]
        part = inpt.as_subclass(Tensor)[..., top:bottom, left:right]
        is_mask = isinstance(inpt, tv_tensors.Mask)
        if is_mask:  # "nearest" would shift the mask by half a pixel
            part = F.interpolate(part[None, None], (height, width), mode="nearest-exact")[0, 0]
        else:
            part = resize(part, (height, width))
        part = F.pad(part, (before, after, above, below), value=IGNORED if is_mask else PADDING)
        return tv_tensors.wrap(part, like=inpt)


def _crop_side(length: int, new_length: int, factor: float, position: float) -> tuple[int, int, int, int, int]:
    """Return how to crop, resize and pad an image along one side.

    Args:
        length: the length of the side, in pixels.
        new_length: the length of the result, in pixels.
        factor: the factor by which the image is scaled.
        position: the position of the crop, from 0 to 1.

    Returns:
        five numbers of pixels: the start and the end of the crop, the padding before it, its length after resizing, and
        the padding after it.
    """
    window = max(1, round(new_length / factor))  # the pixels of the side that the result spans, with padding
    start = round(position * (length - window))  # negative if the side is shorter than the window
    first, end = max(0, start), min(length, start + window)
    resized = min(new_length, max(1, round((end - first) * new_length / window)))
    before = min(new_length - resized, round((first - start) * new_length / window))
    return first, end, before, resized, new_length - resized - before
