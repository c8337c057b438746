"""Draw generated images: beside an image of the data, in a grid, or in pairs with other images."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kit.ground.drawing import GREY, WHITE, add_caption, side_by_side, stacked, to_rgb, zoom_factor, zoomed

GAP = 1  # pixels between the images of a grid, before they are enlarged
PAIR_GAP = 8  # pixels between pairs
MAX_WIDTH = 1600  # pixels: the largest width of a grid with names
# The approximate length of an image's shorter side after enlarging, in pixels, in grids of many and of few images.
SMALL_SIDE, LARGE_SIDE = 32, 64


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
    captions = [(image, [] if target is None else [(class_names[int(target)], WHITE)])]
    if predicted is not None:
        captions.append((predicted, [("generated", GREY)]))
    return side_by_side([add_caption(zoomed(to_rgb(part), zoom_factor(part)), lines) for part, lines in captions])


def grid(images: Tensor, columns: int, names: Sequence[str] = (), side: int = SMALL_SIDE) -> Tensor:
    """Draw images in a grid, row by row, as uint8 [3 H' W'].

    Args:
        images: uint8 [N C H W].
        columns: the largest number of columns. With names, there are fewer if the picture would be too wide.
        names: a name for each image, to write below it; empty for none.
        side: the approximate length of an image's shorter side after enlarging, in pixels.
    """
    factor = zoom_factor(images[0], side)
    cells = [zoomed(to_rgb(image), factor) for image in images]
    if names:
        cells = [add_caption(cell, [(name, WHITE)]) for cell, name in zip(cells, names, strict=True)]
        columns = min(columns, _max_columns(cells))
    return _arrange(cells, columns, GAP * factor)


def pairs(images: Tensor, others: Tensor, names: Sequence[str], columns: int = 8) -> Tensor:
    """Draw pairs in a grid: one of `images`, one of `others` to its right, and a name below both. See `grid`."""
    factor = zoom_factor(images[0], LARGE_SIDE)
    left, right = ([zoomed(to_rgb(image), factor) for image in part] for part in (images, others))
    both = [side_by_side(pair, GAP) for pair in zip(left, right, strict=True)]
    cells = [add_caption(cell, [(name, WHITE)]) for cell, name in zip(both, names, strict=True)]
    return _arrange(cells, min(columns, _max_columns(cells)), PAIR_GAP)


def _max_columns(cells: Sequence[Tensor]) -> int:
    return max(1, MAX_WIDTH // max(cell.shape[2] for cell in cells))


def _arrange(cells: Sequence[Tensor], columns: int, gap: int) -> Tensor:
    rows = [side_by_side(cells[start : start + columns], gap) for start in range(0, len(cells), columns)]
    return stacked(rows, gap)
