"""Images with values from -1 to 1: the base class of their data modules, noise, conversions and pictures."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kit.data import ImageDataModule
from kit.ground.drawing import GREY, WHITE, add_caption, in_columns, side_by_side, to_rgb, zoom_factor, zoomed
from kit.ground.errors import UserError

GAP = 1  # pixels between the images of a grid, before they are enlarged
MAX_WIDTH = 1600  # the largest width of a grid with names, in pixels
# The approximate length of an image's shorter side after enlarging, in pixels, in grids of many and of few images.
SMALL_SIDE, LARGE_SIDE = 32, 64


class SignedImages(ImageDataModule):
    """The base class of data modules whose images are normalised to values from -1 to 1.

    The training images are loaded even for a test, because the report compares generated images with them.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if any(value != 0.5 for value in [*(self.mean or []), *(self.std or [])]):
            raise UserError("this task needs images from -1 to 1: leave out data.mean and data.std")

    def _set_up(self, stage: str) -> None:
        if self.mean is None:
            self.mean = self.std = [0.5] * self.in_channels
        super()._set_up("fit")


def noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise for B seeds, Float[B *shape], on the CPU. Each entry depends only on its seed."""
    parts = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(parts) if parts else torch.empty(0, *shape)


def to_uint8(images: Tensor) -> Tensor:
    """Convert values from -1 to 1 to uint8, 0 to 255. Values outside of this range are clipped."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def from_uint8(images: Tensor) -> Tensor:
    """Convert uint8, 0 to 255, to values from -1 to 1."""
    return images.float() / 127.5 - 1


def draw_sample(
    image: Tensor, class_names: Sequence[str], predicted: Tensor | None = None, target: Any = None
) -> Tensor:
    """Draw an image of the data with the name of its class, and beside it an image that the model made.

    Args:
        image: uint8 [C H W].
        class_names: the names of all classes.
        predicted: the image that the model made, uint8 [C H W], or None to draw only `image`.
        target: the class number of `image`, or None to draw no name.

    Returns:
        uint8 [3 H' W'].
    """
    panels = [(image, [] if target is None else [(class_names[int(target)], WHITE)])]
    if predicted is not None:
        panels.append((predicted, [("generated", GREY)]))
    return side_by_side([add_caption(zoomed(to_rgb(panel), zoom_factor(panel)), lines) for panel, lines in panels])


def image_grid(images: Tensor, columns: int, names: Sequence[str] = (), side: int = SMALL_SIDE) -> Tensor:
    """Draw images in a grid, row by row, as uint8 [3 H' W'].

    Args:
        images: uint8 [N C H W].
        columns: the largest number of columns. With names, there are fewer if the picture would be too wide.
        names: a name for each image, to write below it; empty for none.
        side: the approximate length of an image's shorter side after enlarging, in pixels.
    """
    factor = zoom_factor(images[0], side)
    gap = GAP * factor
    cells = [zoomed(to_rgb(image), factor) for image in images]
    if names:
        cells = [add_caption(cell, [(name, WHITE)]) for cell, name in zip(cells, names, strict=True)]
        columns = min(columns, max(1, (MAX_WIDTH + gap) // (max(cell.shape[2] for cell in cells) + gap)))
    return in_columns(cells, columns, gap)
