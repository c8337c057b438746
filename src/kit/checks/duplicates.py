"""Find images that occur twice, exactly or nearly. If they are in two splits, it is a leak.

Nearly equal images are found by a perceptual hash first, and then by comparing thumbnails and colours.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from kit.checks.headers import Header
from kit.checks.images import ImageList, ListedImage
from kit.checks.pixels import THUMB, ImageStatistics
from kit.data.decode import decode
from kit.ground.faults import Fault, fault
from kit.ground.threads import map_in_threads

TAIL = 16384  # bytes; JPEGs of equal length differ at their end, but often not at their beginning
MAX_DISTANCE = 6  # bits of 64 that the hashes of near images may differ in
ROWS, PAIRS = 4, 2_000  # the number of hashes, and of pairs of thumbnails, that are compared at a time
MAX_COLOUR_DIFFERENCE = 10  # of 255, the mean over the pixels of near images


def group_equal(indices: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Return the groups of two or more indices with the same key. The keys are computed in threads."""
    indices = list(indices)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, value in zip(indices, map_in_threads(key, indices), strict=True):
        groups[value].append(i)
    return [group for group in groups.values() if len(group) > 1]


def same_bytes(files: Sequence[ListedImage], headers: dict[int, Header]) -> list[list[int]]:
    """Return groups of the indices of files with the same content.

    Files of a unique length are not read. Of the others, the ends are compared, and then the whole files.
    """
    equal_lengths = group_equal(sorted(headers), lambda i: headers[i].bytes)
    equal_ends = group_equal(chain(*equal_lengths), lambda i: (headers[i].bytes, _digest(files[i].path, TAIL)))
    return group_equal(chain(*equal_ends), lambda i: _digest(files[i].path))


def _digest(path: Path, tail: int | None = None) -> Hashable:
    """Return the SHA-1 of a file's last `tail` bytes, or of the whole file; a unique object if it cannot be read."""
    try:
        with path.open("rb") as stream:
            if tail is not None:
                stream.seek(max(0, stream.seek(0, 2) - tail))
            return hashlib.file_digest(stream, "sha1").digest()
    except OSError:
        return object()


def duplicate_faults(
    images: Sequence[ListedImage], groups: list[list[int]], near: dict[int, tuple[int, bool]], names: Sequence[str]
) -> list[Fault]:
    """Return a fault for each image that is like an earlier one, and another if their classes or annotations differ.

    Args:
        groups: the indices of equal images.
        near: the result of `near_images`.
        names: the class names.
    """
    pairs = dict(near)
    for group in groups:
        for position, j in enumerate(group[1:], 1):
            earlier = group[:position]
            other_split = (i for i in earlier if images[i].split != images[j].split)
            pairs[j] = next(other_split, earlier[0]), True
    faults: list[Fault] = []
    for j, (i, is_equal) in pairs.items():
        faults += _pair_faults(images[i], images[j], "" if is_equal else "near-", names)
    return faults


def _pair_faults(one: ListedImage, other: ListedImage, near: str, names: Sequence[str]) -> list[Fault]:
    what = "listed twice: also as" if one.path == other.path else f"{near and 'nearly '}the same image as"
    faults: list[Fault] = []
    if one.split != other.split:
        message = f"{what} {one} of {one.split}; remove one of them, or the {other.split} figures flatter"
        faults.append(fault(f"{near}leak", other, message, one))
    conflict = ""
    if one.label is None or other.label is None:
        targets = set() if near else {one.hashable_target(), other.hashable_target()}
        if len(targets) > 1 and None not in targets:
            conflict = f"{what} {one}, but annotated otherwise"
    elif one.label != other.label:
        conflict = f"'{names[other.label]}', but {what} {one}, which is '{names[one.label]}'"
    if conflict:
        faults.append(fault("label-conflict", other, f"{conflict}; correct or remove one of them", one))
    return faults or [fault(f"{near}duplicate", other, f"{what} {one}; keep one of them", one)]


def tensor_faults(images: ImageList) -> list[Fault]:
    """Return faults for constant and for equal images, among those that are not files."""
    faults: list[Fault] = []
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, image in enumerate(tqdm(images.in_memory, "reading images", leave=False, disable=None)):
        pixels = images.samples[image.split].read(image.key).contiguous()
        if pixels.min() == pixels.max():
            faults.append(fault("constant", image, "one colour all over; remove it"))
        else:
            groups[hashlib.sha1(pixels.numpy().tobytes() + repr(pixels.shape).encode()).digest()].append(i)
    return faults + duplicate_faults(images.in_memory, list(groups.values()), {}, images.class_names)


def near_images(
    files: Sequence[ListedImage], statistics: ImageStatistics, indices: np.ndarray
) -> dict[int, tuple[int, bool]]:
    """Return, for each image that is like an earlier one, the index of the earlier one and whether they are equal.

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
