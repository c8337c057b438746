"""Find images that are nearly the same: first by a perceptual hash, then by comparing thumbnails and colours."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from kit.checks.images import ListedImage
from kit.checks.pixels import THUMB, ImageStatistics
from kit.data.decode import decode
from kit.ground.threads import map_in_threads

MAX_DISTANCE = 6  # bits of 64 that the hashes of near images may differ in
ROWS, PAIRS = 4, 2_000  # the number of hashes, and of pairs of thumbnails, that are compared at a time
MAX_COLOUR_DIFFERENCE = 10  # of 255, the mean over the pixels of near images


def near_images(
    files: Sequence[ListedImage], statistics: ImageStatistics, indices: np.ndarray
) -> dict[int, tuple[int, bool]]:
    """Return, for each image that is nearly an earlier one, the index of that and whether they are the same.

    Images of another split are preferred as partners.

    Args:
        indices: the images to compare, ascending.
    """
    best: dict[int, tuple[bool, float, int]] = {}  # for an image: same split, difference, index of its partner
    table = statistics.table
    pairs = indices[near_pairs(table["hash"][indices])]
    for start in range(0, len(pairs), PAIRS):
        i, j = pairs[start : start + PAIRS].T
        bits = np.bitwise_count(table["hash"][i] ^ table["hash"][j])
        differences = thumbnail_difference(table["thumb"][i], table["thumb"][j], bits)
        for one, other, difference in zip(i.tolist(), j.tolist(), differences.tolist(), strict=True):
            if difference < np.inf:
                rank = files[one].split == files[other].split, difference, one
                best[other] = min(best.get(other, rank), rank)
    verdicts = map_in_threads(lambda j: compare_files(files[best[j][2]].path, files[j].path, best[j][1] < 1), best)
    return {j: (best[j][2], verdict == "same") for j, verdict in zip(best, verdicts, strict=True) if verdict}


def near_pairs(hashes: np.ndarray) -> np.ndarray:
    """Return all pairs of indices whose hashes differ in at most `MAX_DISTANCE` bits, Long[P 2], the lower first.

    This compares every two hashes, on all cores. Up to about a million images, decoding them takes longer.
    """

    def compare(start: int) -> np.ndarray:
        distances = np.bitwise_count(hashes[start : start + ROWS, None] ^ hashes[start:])
        i, j = np.nonzero(distances <= MAX_DISTANCE)
        return start + np.stack([i, j], axis=1)[i < j]

    return np.concatenate([np.empty((0, 2), dtype=int), *map_in_threads(compare, range(0, len(hashes), ROWS))])


def thumbnail_difference(a: np.ndarray, b: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Return the mean difference in grey values of pairs of thumbnails, Float[P]; infinite if they are not alike.

    Images are alike if they correlate and hardly differ, or if they differ only in brightness and contrast. The limits
    lie between the pairs in BCCD and CamVid that are known to be alike, and the nearest pairs in CIFAR-10 and
    Fashion-MNIST that are not.

    Args:
        a, b: uint8[P 16 16].
        bits: Long[P], the number of bits in which their hashes differ.
    """
    a, b = a.astype(np.float32), b.astype(np.float32)
    difference = np.abs(a - b).mean((1, 2))
    a, b = (x - x.mean((1, 2), keepdims=True) for x in (a, b))
    product_of = partial(np.einsum, "phw,phw->p")
    correlation = product_of(a, b) / np.maximum(np.sqrt(product_of(a, a) * product_of(b, b)), 1e-6)
    alike = (correlation > 0.993) | (correlation > 0.98) & (bits <= 2) | (correlation > 0.95) & (difference < 4)
    return np.where(alike, difference, np.inf)


def compare_files(one: Path, other: Path, perhaps_same: bool) -> str:
    """Return "same" for equal pixels, "near" for similar ones, or "" if the images differ in colour only."""
    if perhaps_same and torch.equal(decode(one, 4, None), decode(other, 4, None)):
        return "same"
    a, b = (_colours(path) for path in (one, other))
    is_grey = any(np.ptp(colours) <= 4 for colours in (a, b))  # perhaps a grey copy of a colour image
    return "near" if is_grey or np.abs(a - b).mean() < MAX_COLOUR_DIFFERENCE else ""


def _colours(path: Path) -> np.ndarray:
    """Return the colours without brightness (Cb and Cr), Float[2 16 16]."""
    red, green, blue = decode(path, 3, (THUMB, THUMB)).float().numpy()
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([0.564 * (blue - brightness), 0.713 * (red - brightness)])
