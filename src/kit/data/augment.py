"""Random crops that keep an image's size, so that training images always have the size `data.image_size`.

Torchvision's v2 crops take a size, which users would have to change together with `image_size`.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kit.ground.ranges import Share


class RandomShift(v2.Transform):
    """Shift an image vertically and horizontally by random amounts, and fill the uncovered border with black.

    This is v2's `RandomCrop` with `padding`, for images of any size.

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
        return F.crop(inpt, **params)


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
