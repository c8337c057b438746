"""Random crops that keep an image's size, so that training images always have the size `data.image_size`.

Torchvision's v2 crops take a size, which users would have to change together with `image_size`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kit.ground.ranges import PositivePair, Share

IGNORED = 255  # the class number of pixels that count neither in the loss nor in the metrics


class RandomShift(v2.Transform):
    """Shift an image vertically and horizontally by random amounts, and fill the uncovered border with black.

    This is v2's `RandomCrop` with `padding`, for images of any size. In a mask, the border gets 255, which is ignored.

    Args:
        share: the largest shift, as a share of the height and of the width.
    """

    def __init__(self, share: Share = 0.1) -> None:
        super().__init__()
        self.share = share

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        height, width = v2.query_size(flat_inputs)
        limits = [round(self.share * side) for side in (height, width)]
        top, left = (int(torch.randint(-limit, limit + 1, (1,))) for limit in limits)
        return {"top": top, "left": left, "height": height, "width": width}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        if not isinstance(inpt, tv_tensors.Mask):
            return F.crop(inpt, **params)
        top, left = params["top"], params["left"]
        padded = F.pad(inpt, [max(0, -left), max(0, -top), max(0, left), max(0, top)], fill=IGNORED)
        return F.crop(padded, max(0, top), max(0, left), params["height"], params["width"])


class RandomZoomIn(v2.RandomResizedCrop):
    """Cut a random part out of an image and enlarge it to the image's size.

    This is v2's `RandomResizedCrop`, for images of any size.

    Args:
        scale: the smallest and the largest area of the part, as a share of the image's area.
        ratio: the smallest and the largest aspect ratio of the part, width / height.
    """

    def __init__(self, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3 / 4, 4 / 3)) -> None:
        super().__init__(size=1, scale=scale, ratio=ratio)  # `make_params` replaces this size

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        return {**super().make_params(flat_inputs), "size": list(v2.query_size(flat_inputs))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return F.resized_crop(inpt, **params, antialias=True)


class ScaledSide(NamedTuple):
    """How to crop, resize and pad an image along one side, in pixels.

    The crop from `start` to `end` is resized to `length`, and gets `before` and `after` pixels of padding.
    """

    start: int
    end: int
    length: int
    before: int
    after: int


def scale_side(side: int, new_side: int, factor: float, position: float) -> ScaledSide:
    """Return how to scale a side of an image, and to crop or pad it to `new_side` pixels.

    Args:
        side: the length of the side, in pixels.
        new_side: the length after cropping or padding, in pixels.
        factor: the scale factor; above 1 enlarges the image.
        position: where the crop lies in the image, or the image in the padding: 0 (top or left) to 1 (bottom or right).
    """
    window = max(1, round(new_side / factor))  # the number of original pixels that fill `new_side` after scaling
    start = round(position * (side - window))  # negative if the side is shorter than the window
    crop_start, crop_end = max(0, start), min(side, start + window)
    length = min(new_side, max(1, round((crop_end - crop_start) * new_side / window)))
    before = min(new_side - length, round((crop_start - start) * new_side / window))
    return ScaledSide(crop_start, crop_end, length, before, new_side - length - before)


def interpolate_logs(limits: PositivePair, share: float) -> float:
    """Interpolate between two limits on a logarithmic scale. share: 0 for the first limit, 1 for the second."""
    return limits[0] * (limits[1] / limits[0]) ** share
