"""Convert images with more than 8 bits to 8 bits, and find their levels.

The levels are the value that becomes black and the value that becomes white.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from PIL import Image

from kit.ground.files import open_image
from kit.ground.threads import map_in_threads

Levels = tuple[float, float]  # the value that becomes black, and the value that becomes white
WHITES = (1, *(2**bits - 1 for bits in (8, 10, 12, 14, 16, 32)))  # the usual values of white; 1 is for floats
MAX_FRACTION = 25.5  # a fraction below this is white itself: the highest value of images of 0 to 255 is hardly so low
MAX_FILES = 200  # the approximate number of files, evenly spaced, whose lowest and highest values are read


def is_deep(mode: str) -> bool:
    """Return whether images of a PIL mode have one channel with more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def levels_of_range(low: float, high: float) -> Levels:
    """Return the levels of images whose lowest and highest value are `low` and `high`.

    They are 0 and the smallest of `WHITES` that is at least `high`. If `low` is negative or `high` is above all
    `WHITES`, they are `low` and `high`. Cameras and scanners write 10, 12 or 14 bits into 16-bit files, and only the
    highest value shows how many bits. A fraction between 1 and `MAX_FRACTION` is white itself.
    """
    if low >= 0 and 1 < high < MAX_FRACTION and high % 1:
        return 0.0, float(high)
    if low >= 0 and high <= WHITES[-1]:
        return 0.0, float(next(white for white in WHITES if high <= white))
    return float(low), float(high)


def find_levels(paths: Sequence[Path]) -> Levels | None:
    """Return the levels of a data set, and print them, or return None if no readable image has more than 8 bits.

    Fewer than 2 * `MAX_FILES` images are read.
    """
    ranges = [limits for limits in map_in_threads(_range, paths[:: max(1, len(paths) // MAX_FILES)]) if limits]
    if not ranges:
        return None
    black, white = levels_of_range(min(low for low, _ in ranges), max(high for _, high in ranges))
    rank_zero_only(print)(f"in images with more than 8 bits, {black:,g} becomes black and {white:,g} white")
    return black, white


def to_eight_bits(image: Image.Image, levels: Levels | None) -> Image.Image:
    """Convert an image to mode L. Values outside `levels` become black or white. None finds the levels in the image.

    Raises:
        ValueError: a pixel is not finite.
    """
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values)):,} of its pixels are not finite numbers")
    black, white = levels or levels_of_range(values.min(), values.max())
    share = (values - black) / ((white - black) or 1)
    return Image.fromarray((share.clip(0, 1) * 255).round().astype(np.uint8))


def _range(path: Path) -> tuple[float, float] | None:
    """Return the lowest and the highest value of an image with more than 8 bits, or None for any other file."""
    with suppress(Exception), open_image(path) as image:  # decoding reports a broken file later
        if is_deep(image.mode):
            values = np.asarray(image)
            low, high = float(values.min()), float(values.max())
            if np.isfinite([low, high]).all():
                return low, high
    return None
