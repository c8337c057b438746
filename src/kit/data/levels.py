"""Convert images of more than 8 bits to 8 bits: find the values that become black and white, their levels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from kit.ground.files import open_image
from kit.ground.threads import map_in_threads

Levels = tuple[float, float]  # the values that become black and white
WHITES = (1, *(2**bits - 1 for bits in (8, 10, 12, 14, 16, 32)))  # 1 for floats, else the largest integer of some bits
MAX_FILES = 200  # the number of files, evenly spaced, that are searched for the lowest and the highest value


def is_deep(mode: str) -> bool:
    """Return whether an image of a PIL mode has one channel of more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def levels_of_range(low: float, high: float) -> Levels:
    """Return the levels for values from `low` to `high`.

    Cameras and scanners write 10, 12 or 14 bits into files of 16 bits. The files do not say so, but their largest value
    does. If values are negative or above 32 bits, the levels are the lowest and the highest value.
    """
    if low >= 0 and high <= WHITES[-1]:
        return 0.0, float(next(white for white in WHITES if high <= white))
    return float(low), float(high)


def find_levels(paths: Sequence[Path]) -> Levels | None:
    """Return the levels of a data set, from the lowest and highest value in `MAX_FILES` of its images.

    Returns:
        the levels, or None if none of these images has more than 8 bits and can be read
    """
    ranges = [ends for ends in map_in_threads(_range, paths[:: max(1, len(paths) // MAX_FILES)]) if ends is not None]
    return levels_of_range(min(low for low, _ in ranges), max(high for _, high in ranges)) if ranges else None


def to_eight_bits(image: Image.Image, levels: Levels | None) -> Image.Image:
    """Convert an image to mode L; values outside `levels` become black or white. None finds the levels in the image.

    Raises:
        ValueError: a pixel is not finite.
    """
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise ValueError(f"{np.count_nonzero(~np.isfinite(values)):,} of its pixels are not finite numbers")
    black, white = levels or levels_of_range(values.min(), values.max())
    share = (values - black) / ((white - black) or 1)
    return Image.fromarray((share.clip(0, 1) * 255).round().astype(np.uint8))


def require_upper_bits(image: Image.Image) -> None:
    """Refuse a colour image of 16 bits that hardly uses its upper 8 bits. PIL keeps only these.

    Raises:
        ValueError: fewer than 16 shades are left.
    """
    largest = int(np.asarray(image).max())
    if 0 < largest < 16:
        raise ValueError(f"only {largest + 1} levels of its 16-bit colours would be left; save the image with 8 bits")


def _range(path: Path) -> tuple[float, float] | None:
    """Return the lowest and the highest value of an image of more than 8 bits, or None for any other file."""
    try:
        with open_image(path) as image:
            if not is_deep(image.mode):
                return None
            values = np.asarray(image)
    except Exception:  # decoding the file later names it and says what is wrong
        return None
    low, high = float(values.min()), float(values.max())
    return (low, high) if np.isfinite([low, high]).all() else None
