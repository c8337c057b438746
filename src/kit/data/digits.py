"""scikit-learn's handwritten digits (UCI Optical Recognition of Handwritten Digits, the test part: 13 writers)."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kit.ground.errors import UserError

MOST_SCENES, MOST_PIXELS = 100_000, 200_000_000  # that are drawn of digits, all in memory


def digits() -> tuple[Tensor, Tensor]:
    """uint8 [1797 1 8 8], 0 to 255, and Long[1797].

    Read from scikit-learn's file without importing scikit-learn, which alone would take two thirds of a second.
    """
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise UserError("the digits come with scikit-learn: pip install scikit-learn")
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    images = torch.from_numpy(table[:, :64]).reshape(-1, 1, 8, 8)
    return (images.float() * (255 / 16)).round().to(torch.uint8), torch.from_numpy(table[:, 64]).long()


def require_drawable(count: int, height: int, width: int) -> None:
    """
    Raises:
        UserError: so many scenes of a size, in pixels, would take too much memory or time: all are drawn at the start.
    """
    if count > MOST_SCENES or count * height * width > MOST_PIXELS:
        raise UserError(
            f"{count:,} scenes of {height}x{width} pixels are too many to draw: {MOST_SCENES:,} scenes, and "
            f"{MOST_PIXELS:,} pixels in all, are the most"
        )
