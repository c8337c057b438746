"""Images as numbers from -1 to 1 and as pixels; one image drawn with its class; many in a grid."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kit.ground.drawing import GREY, WHITE, add_caption, side_by_side, stacked, to_rgb, zoom_factor, zoomed

GAP = 1  # between the images of a grid, in their own pixels
WIDTH = 1600  # of a picture of several images with words, in pixels
LEAST, LARGE = 32, 64  # pixels of an image's shorter side in a grid of many, and where it is looked at


def pixels(images: Tensor) -> Tensor:
    """uint8 of floats from -1 to 1; what is outside is cut."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def floats(images: Tensor) -> Tensor:
    """From -1 to 1, of uint8."""
    return images.float() / 127.5 - 1


def draw(image: Tensor, class_names: Sequence[str], predicted: Tensor | None = None, target: Any = None) -> Tensor:
    """An image and its class; beside it what was made, if anything.

    Args:
        image: uint8 [C H W].
        predicted: uint8 [C H W].
        target: a class number.
    """
    lines = [] if target is None else [(class_names[int(target)], WHITE)]
    shown = [add_caption(_large(image), lines)]
    if predicted is not None:
        shown.append(add_caption(_large(predicted), [("generated", GREY)]))
    return side_by_side(shown)


def grid(images: Tensor, columns: int, names: Sequence[str] = (), least: int = LEAST) -> Tensor:
    """uint8 [3 H' W'] of uint8 [N C H W], row by row.

    Args:
        names: one below each image, if there are any.
        least: pixels of an image's shorter side, about.
    """
    factor = zoom_factor(images[0], least)
    cells = [zoomed(to_rgb(image), factor) for image in images]
    if names:
        cells = [add_caption(cell, [(name, WHITE)]) for cell, name in zip(cells, names, strict=True)]
        columns = _fitting(columns, cells)
    rows = [side_by_side(cells[start : start + columns], GAP * factor) for start in range(0, len(cells), columns)]
    return stacked(rows, GAP * factor)


def pairs(images: Tensor, others: Tensor, names: Sequence[str], columns: int = 8) -> Tensor:
    """The same of images with another right beside each, and a name below the two."""
    factor = zoom_factor(images[0], LARGE)
    both = zip(images, others, names, strict=True)
    cells = [
        add_caption(side_by_side([zoomed(to_rgb(part), factor) for part in pair], GAP), [(name, WHITE)])
        for *pair, name in both
    ]
    columns = _fitting(columns, cells)
    rows = [side_by_side(cells[start : start + columns], 8 * GAP) for start in range(0, len(cells), columns)]
    return stacked(rows, 8 * GAP)


def _fitting(columns: int, cells: Sequence[Tensor]) -> int:
    """Fewer columns where cells are wide."""
    return max(1, min(columns, WIDTH // max(cell.shape[2] for cell in cells)))


def _large(image: Tensor) -> Tensor:
    return zoomed(to_rgb(image), zoom_factor(image))
