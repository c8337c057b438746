"""Find images that are nearly the same: first by a perceptual hash, then by comparing thumbnails and colours."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageChops

from kit.checks.duplicates import TAIL, digest
from kit.checks.images import ListedImage
from kit.checks.pixels import THUMB, ImageStatistics
from kit.data.decode import load_pixels, upright
from kit.ground.files import open_image
from kit.ground.threads import map_in_threads

MAX_DISTANCE = 6  # bits of 64 that the hashes of near images may differ in
BLOCKS, CHOSEN = 9, 3  # 9 - 3 = 6 = MAX_DISTANCE
CHUNK = 2_000  # the number of pairs that are compared at a time
MAX_COLOUR_DIFFERENCE = 10  # of 255, the mean over the pixels of near images


def near_images(
    files: Sequence[ListedImage], statistics: ImageStatistics, candidates: np.ndarray
) -> dict[int, tuple[int, bool]]:
    """Return, for each image that is nearly an earlier one, the index of that and whether they are the same.

    Images of another split are preferred as partners.

    Args:
        candidates: Bool[N], which images to compare.
    """
    best = _best_partners(files, statistics, candidates)
    verdicts = map_in_threads(lambda j: compare_files(files[best[j][0]].path, files[j].path, best[j][1] < 1), best)
    return {j: (best[j][0], verdict == "same") for j, verdict in zip(best, verdicts, strict=True) if verdict}


def near_pairs(hashes: np.ndarray, distance: int = MAX_DISTANCE) -> np.ndarray:
    """Return all pairs of indices whose hashes differ in at most `distance` <= 6 bits, Long[P 2], the lower first.

    The 64 bits are divided into nine blocks. If six bits differ, at least three blocks are equal. So each pair is equal
    in one of the 84 choices of three blocks (21 bits), and sorting by these finds it in nearly linear time (after
    Manku, Jain and Das Sarma, Detecting near-duplicates for web crawling, 2007).
    """
    unique, member = np.unique(hashes, return_inverse=True)
    edges = np.linspace(0, 64, BLOCKS + 1).astype(int).tolist()
    blocks = [((1 << (high - low)) - 1) << low for low, high in pairwise(edges)]
    masks = [np.uint64(sum(chosen)) for chosen in combinations(blocks, CHOSEN)]
    unique_pairs = np.concatenate([_pairs_equal_under(mask, unique, distance) for mask in masks])
    members = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    pairs = [pair for same in members if len(same) > 1 for pair in combinations(same.tolist(), 2)]
    for a, b in np.unique(unique_pairs, axis=0).tolist():
        pairs += product(members[a].tolist(), members[b].tolist())
    return np.sort(np.array(pairs, dtype=np.int64).reshape(-1, 2), axis=1)


def _pairs_equal_under(mask: np.uint64, unique: np.ndarray, distance: int) -> np.ndarray:
    """Return pairs of indices in `unique`, Long[P 2], whose hashes are near and are equal in the bits of the mask."""
    keys = unique & mask
    order = np.argsort(keys, kind="stable")
    keys, here, step = keys[order], np.arange(len(keys)), 0
    result = [np.zeros((0, 2), dtype=np.int64)]
    while len(here):  # compare with the neighbour at distance 1, 2, 3, ... in the sorted list, as long as any is equal
        step += 1
        here = here[here + step < len(keys)]
        here = here[keys[here] == keys[here + step]]
        pairs = np.stack([order[here], order[here + step]], axis=1)
        near = np.bitwise_count(unique[pairs[:, 0]] ^ unique[pairs[:, 1]]) <= distance
        result.append(np.sort(pairs[near], axis=1))
    return np.concatenate(result)


def _best_partners(
    files: Sequence[ListedImage], statistics: ImageStatistics, candidates: np.ndarray
) -> dict[int, tuple[int, float]]:
    """Return, for each image that is like an earlier one in grey, the index of that and their difference."""
    indices = np.flatnonzero(candidates)
    pairs = indices[near_pairs(statistics.table["hash"][indices])]
    split = np.array([file.split for file in files])
    best: dict[int, tuple[int, float]] = {}
    for start in range(0, len(pairs), CHUNK):
        i, j = pairs[start : start + CHUNK].T
        a, b = (statistics.table[side] for side in (i, j))
        difference = thumbnail_difference(a["thumb"], b["thumb"], np.bitwise_count(a["hash"] ^ b["hash"]))
        alike = np.isfinite(difference)
        for one, other, distance in zip(i[alike].tolist(), j[alike].tolist(), difference[alike].tolist(), strict=True):
            rank = (split[one] == split[other], distance)
            if other not in best or rank < (split[best[other][0]] == split[other], best[other][1]):
                best[other] = (one, distance)
    return best


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
    if one.stat().st_size > TAIL < other.stat().st_size and digest(one, TAIL) == digest(other, TAIL):
        return "same"  # compressed pixels come last in a file, so only the metadata differ
    draft = None if perhaps_same else ("RGB", (4 * THUMB, 4 * THUMB))
    a, b = (_decoded(path, draft) for path in (one, other))
    if perhaps_same and a.size == b.size:
        difference = ImageChops.difference(a.convert("RGBA"), b.convert("RGBA"))
        if difference.getbbox(alpha_only=False) is None:
            return "same"
    colours = [_colours(image) for image in (a, b)]
    is_grey = any(np.ptp(colour) <= 4 for colour in colours)  # perhaps a grey copy of a colour image
    return "near" if is_grey or np.abs(colours[0] - colours[1]).mean() < MAX_COLOUR_DIFFERENCE else ""


def _decoded(path: Path, draft: tuple[str, tuple[int, int]] | None) -> Pillow.Image:
    with open_image(path) as image:
        return upright(load_pixels(image, path, draft)[0])


def _colours(image: Pillow.Image) -> np.ndarray:
    """Return the colours without brightness (Cb and Cr), Float[16 16 2]."""
    small = image.convert("RGB").resize((THUMB, THUMB), Pillow.Resampling.BILINEAR)
    return np.asarray(small.convert("YCbCr"), dtype=np.float32)[..., 1:]
