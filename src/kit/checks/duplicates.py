"""Find equal and similar images. Copies in two splits are a leak.

Perceptual hashes give candidates for similar images. Their thumbnails and colours are compared afterwards.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from kit.checks.headers import Header
from kit.checks.images import CheckedImage, ImageList
from kit.checks.pixels import THUMBNAIL_SIDE, ImageStatistics
from kit.data.decode import decode
from kit.ground.faults import Fault, fault
from kit.ground.threads import map_in_threads

# The number of last bytes that are compared first: JPEGs of equal length often have the same beginning.
TAIL = 16384
MAX_DISTANCE = 6  # the largest Hamming distance between the 64-bit hashes of similar images
# Thousands of images may be similar, for example if the camera does not move. So an image is compared with only a few
# earlier ones. Its thumbnail is compared with the `MAX_PARTNERS` images in the same split that have the nearest hashes,
# and with as many in other splits. Its colours are compared with the `MAX_COLOUR_PARTNERS` nearest by thumbnail.
MAX_PARTNERS, MAX_COLOUR_PARTNERS = 8, 3
MAX_COLOUR_DIFFERENCE = 10  # the largest mean colour difference between similar images, on a scale of 0 to 255


class Match(NamedTuple):
    """An earlier image that a later image resembles.

    Of several matches, the smallest tuple is the best: a match in another split, then the least difference.

    is_same_split: whether both images are in one split.
    difference: the mean absolute difference of their thumbnails, 0 to 255.
    earlier: the index of the earlier image.
    is_equal: whether their pixels are equal.
    """

    is_same_split: bool
    difference: float
    earlier: int
    is_equal: bool = False


def group_equal(indices: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Group indices by their keys, computed in threads, and return the groups of two or more."""
    indices = list(indices)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, value in zip(indices, map_in_threads(key, indices), strict=True):
        groups[value].append(i)
    return [group for group in groups.values() if len(group) > 1]


def same_bytes(files: Sequence[CheckedImage], headers: dict[int, Header]) -> list[list[int]]:
    """Return groups of files (their indices) with the same content.

    If several files have the same length, their ends are compared first. Only files with equal ends are read entirely.
    """
    equal_lengths = group_equal(sorted(headers), lambda i: headers[i].file_size)
    equal_ends = group_equal(chain(*equal_lengths), lambda i: (headers[i].file_size, _digest(files[i].path, TAIL)))
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
    images: Sequence[CheckedImage], groups: list[list[int]], similar: dict[int, Match], class_names: Sequence[str]
) -> list[Fault]:
    """Return the leaks, label conflicts and duplicates among images.

    Args:
        groups: the indices of equal images.
        similar: the result of `similar_images`.
    """
    matches = dict(similar)
    for group in groups:
        first_of_split: dict[str, int] = {}
        for j in group:
            if first_of_split:
                firsts = first_of_split.items()
                matches[j] = min(Match(split == images[j].split, 0, i, True) for split, i in firsts)
            first_of_split.setdefault(images[j].split, j)
    faults: list[Fault] = []
    for j, match in matches.items():
        faults += _pair_faults(images[match.earlier], images[j], match.is_equal, class_names)
    return faults


def _pair_faults(earlier: CheckedImage, later: CheckedImage, is_equal: bool, class_names: Sequence[str]) -> list[Fault]:
    """Return the faults of two images that are equal or similar: a leak, a label conflict, both, or a duplicate."""
    prefix, copy_of = ("", "the same image as") if is_equal else ("near-", "nearly the same image as")
    copy = f"{'listed twice: also as' if earlier.path == later.path else copy_of} {earlier}"
    faults: list[Fault] = []
    if earlier.split != later.split:
        message = f"{copy} of {earlier.split}; remove one of them, or {later.split} scores are inflated"
        faults.append(fault(f"{prefix}leak", later, message, other=earlier))
    conflict = ""
    if earlier.label is None or later.label is None:
        targets = {earlier.hashable_target(), later.hashable_target()} if is_equal else set()
        if len(targets) > 1 and None not in targets:
            conflict = f"{copy}, but labelled differently"
    elif earlier.label != later.label:
        conflict = f"'{class_names[later.label]}', but {copy}, which is '{class_names[earlier.label]}'"
    if conflict:
        faults.append(fault("label-conflict", later, f"{conflict}; correct or remove one of them", other=earlier))
    return faults or [fault(f"{prefix}duplicate", later, f"{copy}; keep one of them", other=earlier)]


def tensor_faults(images: ImageList) -> list[Fault]:
    """Return the faults of images in memory: constant images and equal ones."""
    faults: list[Fault] = []
    groups: dict[bytes, list[int]] = defaultdict(list)
    for i, image in enumerate(tqdm(images.in_memory, "reading images", leave=False, disable=None)):
        pixels = images.samples[image.split].read(image.sample_index).contiguous()
        if (pixels == pixels[:, :1, :1]).all():
            faults.append(fault("constant", image, "one colour all over; remove it"))
        else:
            groups[hashlib.sha1(pixels.numpy().tobytes() + repr(pixels.shape).encode()).digest()].append(i)
    return faults + duplicate_faults(images.in_memory, list(groups.values()), {}, images.class_names)


def similar_images(files: Sequence[CheckedImage], statistics: ImageStatistics, indices: np.ndarray) -> dict[int, Match]:
    """Return the best match of each image that resembles an earlier one. Matches in other splits come first.

    Args:
        indices: the images to compare, ascending.
    """
    hashes, thumbnails = (statistics.table[name][indices] for name in ("hash", "thumbnail"))
    splits = np.array([files[i].split for i in indices], dtype=str)

    def best_match(later: int) -> Match | None:
        """Return the best match whose colours are similar, too. later: the later image's position in `indices`."""
        earlier, distances = near_hashes(hashes, splits, later)
        differences = thumbnail_difference(thumbnails[earlier], thumbnails[later], distances).tolist()
        is_same_split = (splits[earlier] == splits[later]).tolist()
        matches = sorted(map(Match, is_same_split, differences, indices[earlier].tolist()))
        for match in [match for match in matches if match.difference < np.inf][:MAX_COLOUR_PARTNERS]:
            paths = files[match.earlier].path, files[indices[later]].path
            if result := compare_files(*paths, compare_pixels=match.difference < 1):
                return match._replace(is_equal=result == "same")
        return None

    results = zip(indices.tolist(), map_in_threads(best_match, range(len(indices))), strict=True)
    return {j: match for j, match in results if match}


def near_hashes(hashes: np.ndarray, splits: np.ndarray, later: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of earlier images whose hashes are similar to a later image's hash, and the hashes' distances.

    A similar hash has at most the distance `MAX_DISTANCE`. At most `MAX_PARTNERS` images of the same split are
    returned, and as many of the other splits: those with the nearest hashes. Of equally near images, the latest are
    returned. For up to a million images, comparing all hashes in threads takes less time than decoding the images.
    """
    distances = np.bitwise_count(hashes[:later] ^ hashes[later])
    near = np.flatnonzero(distances <= MAX_DISTANCE)[::-1]
    near = near[np.argsort(distances[near], kind="stable")]
    is_same_split = splits[near] == splits[later]
    chosen = np.concatenate([near[is_same_split][:MAX_PARTNERS], near[~is_same_split][:MAX_PARTNERS]])
    return chosen, distances[chosen]


def thumbnail_difference(a: np.ndarray, b: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the mean absolute differences of P grey thumbnails from another, Float[P]; infinite if dissimilar.

    Similar thumbnails have a high correlation, which does not depend on brightness and contrast. The limits accept the
    pairs in BCCD and CamVid that are known to be similar, and reject different objects in CIFAR-10 and Fashion-MNIST.

    Args:
        a: the P thumbnails, uint8[P 16 16].
        b: the other thumbnail, uint8[16 16].
        distances: Long[P], the Hamming distances of the P images' hashes from the other image's hash.
    """
    a, b = a.astype(np.float32), b.astype(np.float32)
    difference = np.abs(a - b).mean((1, 2))
    a, b = a - a.mean((1, 2), keepdims=True), b - b.mean()
    norms = np.sqrt((a * a).sum((1, 2)) * (b * b).sum())
    correlation = (a * b).sum((1, 2)) / np.maximum(norms, 1e-6)
    is_close = (distances <= 2) & (correlation > 0.98) | (difference < 4) & (correlation > 0.95)
    return np.where((correlation > 0.993) | is_close, difference, np.inf)


def compare_files(one: Path, other: Path, compare_pixels: bool) -> str:
    """Compare two images whose thumbnails are similar: return "same" or "near", or "" if their colours differ.

    Args:
        compare_pixels: whether all pixels are compared; otherwise, the result is not "same".
    """
    if compare_pixels and torch.equal(decode(one, 4, None), decode(other, 4, None)):
        return "same"
    a, b = (_colours(path) for path in (one, other))
    is_grey = any(np.ptp(colours) <= 4 for colours in (a, b))  # one image may be a grey copy of the other
    return "near" if is_grey or np.abs(a - b).mean() < MAX_COLOUR_DIFFERENCE else ""


def _colours(path: Path) -> np.ndarray:
    """Return the Cb and Cr channels (colour without brightness) of an image's thumbnail, Float[2 16 16]."""
    red, green, blue = decode(path, 3, (THUMBNAIL_SIDE, THUMBNAIL_SIDE)).float().numpy()
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    return np.stack([0.564 * (blue - brightness), 0.713 * (red - brightness)])
