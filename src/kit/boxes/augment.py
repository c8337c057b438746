"""The one augmentation of boxes that torchvision's v2 transforms do not have."""

import math
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kit.boxes.targets import kept
from kit.data.decode import PADDING


class Zoom(v2.Transform):
    """Nearer or farther by a random factor, at a random place; the image keeps its size.

    v2's `ScaleJitter` and `RandomZoomOut` change the size, and none of v2 looks at how much of a box is left: here a
    box is clipped, and dropped if little remains of it, with all that belongs to it.

    Args:
        scale: the least and the greatest factor, drawn so that 1/2 is as likely as 2.
        min_visible: the share of a box's area that must remain.
        fill: the grey around an image that has shrunk.
    """

    def __init__(self, scale: tuple[float, float] = (0.8, 1.25), min_visible: float = 0.4, fill: int = PADDING) -> None:
        super().__init__()
        self.scale, self.min_visible, self.fill = tuple(scale), min_visible, fill

    def forward(self, image: tv_tensors.Image, target: dict[str, Any]) -> tuple[tv_tensors.Image, dict[str, Any]]:
        height, width = image.shape[-2:]
        low, high = (math.log(factor) for factor in self.scale)
        share, across, down = torch.rand(3).tolist()
        factor = math.exp(low + share * (high - low))
        if factor > 1:  # this part of the image fills it
            part = max(1, round(height / factor)), max(1, round(width / factor))
            top, left = round(down * (height - part[0])), round(across * (width - part[1]))
            pixels = F.resized_crop(image, top, left, *part, size=[height, width], antialias=True)
            factors, shift = (width / part[1], height / part[0]), (-left * width / part[1], -top * height / part[0])
        else:  # it fills this part of the image
            part = max(1, round(height * factor)), max(1, round(width * factor))
            top, left = round(down * (height - part[0])), round(across * (width - part[1]))
            smaller = F.resize(image, list(part), antialias=True)
            pixels = F.pad(smaller, [left, top, width - part[1] - left, height - part[0] - top], fill=self.fill)
            factors, shift = (part[1] / width, part[0] / height), (left, top)
        boxes = target["boxes"].as_subclass(Tensor)
        moved = boxes * boxes.new_tensor(factors * 2) + boxes.new_tensor(shift * 2)
        clipped = moved.clamp(min=0).minimum(moved.new_tensor([width, height] * 2))
        visible = _area(clipped) >= self.min_visible * _area(moved)
        wrapped = tv_tensors.BoundingBoxes(clipped[visible], format="XYXY", canvas_size=(height, width))
        return tv_tensors.wrap(pixels, like=image), {**kept(target, visible), "boxes": wrapped}


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)
