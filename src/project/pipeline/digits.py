"""scikit-learn's handwritten digits (UCI Optical Recognition of Handwritten Digits, the test part: 13 writers)."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def digits() -> tuple[Tensor, Tensor]:
    """uint8 [1797 1 8 8], 0 to 255, and Long[1797].

    Read from scikit-learn's file without importing scikit-learn, which alone would take two thirds of a second.
    """
    folder = Path(find_spec("sklearn").submodule_search_locations[0])
    with gzip.open(folder / "datasets" / "data" / "digits.csv.gz", "rt") as lines:
        table = np.loadtxt(lines, delimiter=",", dtype=np.uint8)
    images = torch.from_numpy(table[:, :64]).reshape(-1, 1, 8, 8)
    return (images.float() * (255 / 16)).round().to(torch.uint8), torch.from_numpy(table[:, 64]).long()
