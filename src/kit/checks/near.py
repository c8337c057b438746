"""Images that are nearly the same: by a hash that withstands small changes, then by what the pair looks like."""

from collections.abc import Sequence
from functools import partial
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageChops

from kit.checks.duplicates import TAIL, digest
from kit.checks.images import Image
from kit.checks.pixels import THUMB, Figures
from kit.data.decode import load, upright
from kit.ground.reading import open_image
from kit.ground.threads import in_threads

DISTANCE = 6  # bits of 64 that the hashes of near images may differ in
BLOCKS, KEPT = 9, 3  # 9 - 3 = 6 = DISTANCE
CHUNK = 2_000  # pairs compared at a time
HUE = 10  # mean difference in colour, of 255, that near images may have


def near_images(files: Sequence[Image], read: Figures, candidates: np.ndarray) -> dict[int, tuple[int, bool]]:
    """For each image that is nearly an earlier one: which, preferably of another split, and whether it is the same.

    Args:
        candidates: bool[N], the images to compare.
    """
    best = _pairs(files, read, candidates)
    verdicts = in_threads(lambda j: compare(files[best[j][0]].path, files[j].path, best[j][1] < 1), best)
    return {j: (best[j][0], verdict == "same") for j, verdict in zip(best, verdicts, strict=True) if verdict}


def close(hashes: np.ndarray, distance: int = DISTANCE) -> np.ndarray:
    """All pairs of different places whose hashes differ in at most `distance` <= 6 bits: Long[P 2], the lower first.

    The 64 bits are cut into nine blocks. Six differing bits leave three blocks untouched, so that each pair agrees in
    one of the 84 choices of three blocks, 21 bits: sorting by those finds it, in near linear time (after Manku, Jain
    and Das Sarma, Detecting near-duplicates for web crawling, 2007).
    """
    unique, member = np.unique(hashes, return_inverse=True)
    edges = np.linspace(0, 64, BLOCKS + 1).astype(int).tolist()
    blocks = [((1 << (high - low)) - 1) << low for low, high in pairwise(edges)]
    masks = [np.uint64(sum(chosen)) for chosen in combinations(blocks, KEPT)]
    found = np.concatenate([_agreeing_under(mask, unique, distance) for mask in masks])
    places = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    pairs = [pair for same in places if len(same) > 1 for pair in combinations(same.tolist(), 2)]
    for a, b in np.unique(found, axis=0).tolist():
        pairs += product(places[a].tolist(), places[b].tolist())
    return np.sort(np.array(pairs, dtype=np.int64).reshape(-1, 2), axis=1)


def _agreeing_under(mask: np.uint64, unique: np.ndarray, distance: int) -> np.ndarray:
    """Long[P 2]: places in `unique`, the lower first, whose hashes agree under the mask and are near."""
    keys = unique & mask
    order = np.argsort(keys, kind="stable")
    keys, here, step = keys[order], np.arange(len(keys)), 0
    found = [np.zeros((0, 2), dtype=np.int64)]
    while len(here):  # with the neighbour at 1, 2, 3, ... places in the sorted list, as long as any agrees
        step += 1
        here = here[here + step < len(keys)]
        here = here[keys[here] == keys[here + step]]
        pairs = np.stack([order[here], order[here + step]], axis=1)
        near = np.bitwise_count(unique[pairs[:, 0]] ^ unique[pairs[:, 1]]) <= distance
        found.append(np.sort(pairs[near], axis=1))
    return np.concatenate(found)


def _pairs(files: Sequence[Image], read: Figures, candidates: np.ndarray) -> dict[int, tuple[int, float]]:
    """For each image that is like an earlier one in grey: which, preferably of another split, and how far from it."""
    places = np.flatnonzero(candidates)
    pairs = places[close(read.table["hash"][places])]
    split = np.array([file.split for file in files])
    best: dict[int, tuple[int, float]] = {}
    for start in range(0, len(pairs), CHUNK):
        i, j = pairs[start : start + CHUNK].T
        a, b = (read.table[side] for side in (i, j))
        difference = likeness(a["thumb"], b["thumb"], np.bitwise_count(a["hash"] ^ b["hash"]))
        alike = np.isfinite(difference)
        for one, other, far in zip(i[alike].tolist(), j[alike].tolist(), difference[alike].tolist(), strict=True):
            rank = (split[one] == split[other], far)
            if other not in best or rank < (split[best[other][0]] == split[other], best[other][1]):
                best[other] = (one, far)
    return best


def likeness(a: np.ndarray, b: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """Mean difference in grey values of pairs of thumbnails, Float[P]; infinite where they are not alike.

    Alike are pictures that correlate and hardly differ, or that differ in no more than brightness and contrast. The
    limits lie between the pairs that are known to be alike in BCCD and CamVid, and the nearest that are not in
    CIFAR-10 and Fashion-MNIST.

    Args:
        a, b: uint8[P 16 16].
        bits: Long[P], in how many their hashes differ.
    """
    a, b = a.astype(np.float32), b.astype(np.float32)
    difference = np.abs(a - b).mean((1, 2))
    a, b = (x - x.mean((1, 2), keepdims=True) for x in (a, b))
    product_of = partial(np.einsum, "phw,phw->p")
    correlation = product_of(a, b) / np.maximum(np.sqrt(product_of(a, a) * product_of(b, b)), 1e-6)
    alike = (correlation > 0.993) | (correlation > 0.98) & (bits <= 2) | (correlation > 0.95) & (difference < 4)
    return np.where(alike, difference, np.inf)


def compare(one: Path, other: Path, perhaps_same: bool) -> str:
    """`same` pixels, `near` ones, or an empty text for what differs in colour alone."""
    if one.stat().st_size > TAIL < other.stat().st_size and digest(one, TAIL) == digest(other, TAIL):
        return "same"  # compressed pixels come last in a file: only what describes them differs
    draft = None if perhaps_same else ("RGB", (4 * THUMB, 4 * THUMB))
    a, b = (_decoded(path, draft) for path in (one, other))
    if perhaps_same and a.size == b.size:
        difference = ImageChops.difference(a.convert("RGBA"), b.convert("RGBA"))
        if difference.getbbox(alpha_only=False) is None:
            return "same"
    colours = [_colours(image) for image in (a, b)]
    grey = any(np.ptp(colour) <= 4 for colour in colours)  # of a colour image, perhaps a grey copy
    return "near" if grey or np.abs(colours[0] - colours[1]).mean() < HUE else ""


def _decoded(path: Path, draft: tuple[str, tuple[int, int]] | None) -> Pillow.Image:
    with open_image(path) as image:
        return upright(load(image, path, draft)[0])


def _colours(image: Pillow.Image) -> np.ndarray:
    """Float[16 16 2]: blueness and redness (Cb and Cr), without the brightness."""
    small = image.convert("RGB").resize((THUMB, THUMB), Pillow.Resampling.BILINEAR)
    return np.asarray(small.convert("YCbCr"), dtype=np.float32)[..., 1:]
