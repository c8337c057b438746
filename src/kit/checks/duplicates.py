"""Find images that occur twice. If they are in two splits, it is a leak."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from pathlib import Path

from tqdm import tqdm

from kit.checks.headers import Header
from kit.checks.images import ImageList, ListedImage
from kit.ground.faults import Fault, fault
from kit.ground.threads import map_in_threads

TAIL = 16384  # bytes; JPEGs of equal length differ at their end, but often not at their beginning


def group_equal(indices: Iterable[int], key: Callable[[int], Hashable]) -> list[list[int]]:
    """Return the groups of two or more indices with the same key. The keys are computed in threads."""
    indices = list(indices)
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for i, value in zip(indices, map_in_threads(key, indices), strict=True):
        groups[value].append(i)
    return [group for group in groups.values() if len(group) > 1]


def same_bytes(
    files: Sequence[ListedImage], headers: dict[int, Header], max_bytes: int | None = None
) -> tuple[list[list[int]], int]:
    """Return groups of the indices of files with the same content, and the number of files that were left out.

    Files of a unique length are not read. Of the others, the ends are compared, and then the whole files.

    Args:
        max_bytes: the bytes to read of whole files; files beyond that are left out.
    """
    equal_lengths = group_equal(sorted(headers), lambda i: headers[i].bytes)
    equal_ends = group_equal(chain(*equal_lengths), lambda i: (headers[i].bytes, _digest(files[i].path, TAIL)))
    candidates: list[int] = []
    left_out = total = 0
    for group in equal_ends:
        total += headers[group[0]].bytes * len(group)
        if max_bytes is None or total <= max_bytes:
            candidates += group
        else:
            left_out += len(group)
    return group_equal(candidates, lambda i: _digest(files[i].path)), left_out


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
        near: the result of `near.near_images`.
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
    what = "listed twice: also as" if one.name == other.name else f"{near and 'nearly '}the same image as"
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
        pixels = images.samples[image.split].read(image.index).contiguous()
        if pixels.min() == pixels.max():
            faults.append(fault("constant", image, "one colour all over; remove it"))
        else:
            groups[hashlib.sha1(pixels.numpy().tobytes() + repr(pixels.shape).encode()).digest()].append(i)
    return faults + duplicate_faults(images.in_memory, list(groups.values()), {}, images.class_names)
