"""Augmentation of images and their masks that torchvision lacks."""

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

    Only the crop is resized. If the scaled image is smaller than the crop, it is padded: the image with grey, the mask
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
        share, *positions = torch.rand(3).tolist()
        factor = self.scale[0] * (self.scale[1] / self.scale[0]) ** share
        sides = zip(image.shape[-2:], self.size or image.shape[-2:], positions, strict=True)
        rows, columns = (_crop_side(length, target, factor, position) for length, target, position in sides)
        return {"rows": rows, "columns": columns}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, (tv_tensors.Image, tv_tensors.Mask)):
            return inpt
        (top, bottom, above, height, below), (left, right, before, width, after) = params["rows"], params["columns"]
        part = inpt.as_subclass(Tensor)[..., top:bottom, left:right]
        is_mask = isinstance(inpt, tv_tensors.Mask)
        if part.shape[-2:] != (height, width):
            # "nearest" would shift the mask by half a pixel.
            if is_mask:
                part = F.interpolate(part[None, None], (height, width), mode="nearest-exact")[0, 0]
            else:
                part = resize(part, (height, width))
        part = F.pad(part, (before, after, above, below), value=IGNORED if is_mask else PADDING)
        return tv_tensors.wrap(part, like=inpt)


def _crop_side(length: int, target: int, factor: float, position: float) -> tuple[int, int, int, int, int]:
    """Return how to crop, resize and pad one side of an image.

    Args:
        length: the length of the side, in pixels.
        target: the length of the result.
        factor: the factor by which the image is scaled.
        position: the position of the crop, from 0 to 1.

    Returns:
        the first pixel of the crop, the pixel after its last, and the padding before, the resized length, and the
        padding after.
    """
    window = max(1, round(target / factor))
    start = round(position * (length - window))  # negative if the side is shorter than the window
    first, end = max(0, start), min(length, start + window)
    if end - first == window:
        return first, end, 0, target, 0
    resized = min(target, max(1, round((end - first) * target / window)))
    before = min(target - resized, round((first - start) * target / window))
    return first, end, before, resized, target - resized - before
