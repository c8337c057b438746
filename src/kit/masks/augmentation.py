"""Augment images together with their masks, by a transform that torchvision lacks."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import v2

from kit.data.augment import interpolate_logs, scale_side
from kit.data.decode import PADDING, ImageSize, resize
from kit.formats.masks.masks import IGNORED
from kit.ground.ranges import PositivePair


class RandomScaleCrop(v2.Transform):
    """Scale an image and its mask by a random factor and crop them at a random position, in one step.

    Only the crop is resized. If the scaled image is smaller than the crop, the image is padded with grey, and the mask
    with 255, which is ignored.

    Args:
        size: the height and width of the crop; by default the size of the image.
        scale: the smallest and the largest factor. The logarithm of the factor is uniform.
    """

    def __init__(self, size: ImageSize | None = None, scale: PositivePair = (0.75, 1.5)) -> None:
        super().__init__()
        self.size, self.scale = None if size is None else tuple(size), tuple(scale)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        image = next(value for value in flat_inputs if isinstance(value, tv_tensors.Image))
        uniform, *positions = torch.rand(3).tolist()
        factor = interpolate_logs(self.scale, uniform)
        sides = zip(image.shape[-2:], self.size or image.shape[-2:], positions, strict=True)
        rows, columns = (scale_side(length, new_length, factor, position) for length, new_length, position in sides)
        return {"rows": rows, "columns": columns}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, (tv_tensors.Image, tv_tensors.Mask)):
            return inpt
        rows, columns = params["rows"], params["columns"]
        part = inpt.as_subclass(Tensor)[..., rows.start : rows.end, columns.start : columns.end]
        size = (rows.length, columns.length)
        is_mask = isinstance(inpt, tv_tensors.Mask)
        # For a mask, "nearest" would shift it by half a pixel.
        part = F.interpolate(part[None, None], size, mode="nearest-exact")[0, 0] if is_mask else resize(part, size)
        padding = (columns.before, columns.after, rows.before, rows.after)
        part = F.pad(part, padding, value=IGNORED if is_mask else PADDING)
        return tv_tensors.wrap(part, like=inpt)
