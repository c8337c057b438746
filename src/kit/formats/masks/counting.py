"""Which classes masks show, and how much of each."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from kit.data import Samples
from kit.formats.masks.masks import UNKNOWN, MaskFiles
from kit.ground.errors import UserError
from kit.ground.threads import in_threads

COUNTED = 200  # masks, evenly spaced, that tell how many pixels each class has, if they show them all


def count_pixels(samples: Samples, num_classes: int) -> list[int]:
    """The pixels of each class: of `COUNTED` masks, or of all where these do not show every class.

    -1 for a class that is not seen while some pixels could not be told: it need not be missing.
    """
    step = math.ceil(len(samples) / COUNTED) or 1
    some = range(0, len(samples), step)
    counts = _added_up(samples, some)
    if not counts[:num_classes].all():
        counts += _added_up(samples, [index for index in range(len(samples)) if index % step])
    if counts[UNKNOWN]:
        counts[counts == 0] = -1
    return counts[:num_classes].tolist()


def _added_up(samples: Samples, indices: Sequence[int]) -> np.ndarray:
    counts = np.zeros(256, int)
    for pixels in in_threads(_pixel_counts(samples), indices):
        counts += pixels
    return counts


def rarest_classes(samples: Samples, num_classes: int) -> Tensor:
    """Long[N]: of the classes that an image shows, the one that the fewest images show; K where it shows none."""
    each = list(in_threads(_pixel_counts(samples), range(len(samples))))
    shown = torch.from_numpy(np.stack([pixels[:num_classes] > 0 for pixels in each]))
    rarity = torch.where(shown, shown.sum(0), len(samples) + 1)
    return torch.where(shown.any(1), rarity.argmin(1), num_classes)


def _pixel_counts(samples: Samples) -> Callable[[int], np.ndarray]:
    """A function of a sample's index to the pixels of each value; a mask that cannot be read is one `UNKNOWN`:
    whoever reads the sample as a whole says why."""

    def of(index: int) -> np.ndarray:
        if not isinstance(samples, MaskFiles):
            return np.bincount(samples.read(index)[-1].numpy().ravel(), minlength=256)
        try:
            return np.bincount(samples.reader.known(samples.targets[index]).ravel(), minlength=256)
        except UserError:
            return np.bincount([UNKNOWN], minlength=256)

    return of
