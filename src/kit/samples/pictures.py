"""Images as numbers from -1 to 1 and as pixels; one image drawn with its class; many in a grid."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kit.ground.drawing import GREY, WHITE, below, beside, captioned, enlarged, enlargement, in_colour

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
    shown = [captioned(_large(image), lines)]
    if predicted is not None:
        shown.append(captioned(_large(predicted), [("generated", GREY)]))
    return beside(shown)


def grid(images: Tensor, columns: int, names: Sequence[str] = (), least: int = LEAST) -> Tensor:
    """uint8 [3 H' W'] of uint8 [N C H W], row by row.

    Args:
        names: one below each image, if there are any.
        least: pixels of an image's shorter side, about.
    """
    factor = enlargement(images[0], least)
    cells = [enlarged(in_colour(image), factor) for image in images]
    if names:
        cells = [captioned(cell, [(name, WHITE)]) for cell, name in zip(cells, names, strict=True)]
        columns = _fitting(columns, cells)
    rows = [beside(cells[start : start + columns], GAP * factor) for start in range(0, len(cells), columns)]
    return below(rows, GAP * factor)


def pairs(images: Tensor, others: Tensor, names: Sequence[str], columns: int = 8) -> Tensor:
    """The same of images with another right beside each, and a name below the two."""
    factor = enlargement(images[0], LARGE)
    both = zip(images, others, names, strict=True)
    cells = [
        captioned(beside([enlarged(in_colour(part), factor) for part in pair], GAP), [(name, WHITE)])
        for *pair, name in both
    ]
    columns = _fitting(columns, cells)
    rows = [beside(cells[start : start + columns], 8 * GAP) for start in range(0, len(cells), columns)]
    return below(rows, 8 * GAP)


def _fitting(columns: int, cells: Sequence[Tensor]) -> int:
    """Fewer columns where cells are wide."""
    return max(1, min(columns, WIDTH // max(cell.shape[2] for cell in cells)))


def _large(image: Tensor) -> Tensor:
    return enlarged(in_colour(image), enlargement(image))
