"""Find images that occur twice. If they are in two splits, it is a leak."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from kit.checks.headers import Header
from kit.checks.images import ImageList, ListedImage, single_labels
from kit.ground.faults import Fault, fault
from kit.ground.threads import map_in_threads

TAIL = 16384  # bytes; JPEGs of equal length differ at their end, but often not at their beginning


def same_bytes(
    files: Sequence[ListedImage], headers: Mapping[int, Header], limit: int | None = None
) -> tuple[list[list[int]], int]:
    """Return groups of the indices of files with the same content, and the number of files that were left out.

    Files of a unique length are not read. Of the others, the ends are compared, and then the whole files.

    Args:
        limit: the bytes to read of whole files; files beyond that are left out.
    """
    lengths: dict[int, list[int]] = defaultdict(list)
    for i in sorted(headers):
        lengths[headers[i].bytes].append(i)
    equal: list[list[int]] = []
    equal_ends: list[list[int]] = []
    left_out = 0
    for group in _split_by_digest([group for group in lengths.values() if len(group) > 1], files, TAIL):
        length = headers[group[0]].bytes
        if length <= TAIL:
            equal.append(group)
        elif limit is None or length * len(group) <= limit:
            equal_ends.append(group)
            limit = None if limit is None else limit - length * len(group)
        else:
            left_out += len(group)
    return equal + _split_by_digest(equal_ends, files, None), left_out


def _split_by_digest(groups: list[list[int]], files: Sequence[ListedImage], tail: int | None) -> list[list[int]]:
    """Split each group into groups of files that are equal in their last `tail` bytes, or in all bytes."""
    result: list[list[int]] = []
    members = [i for group in groups for i in group]
    digests = dict(zip(members, map_in_threads(lambda i: digest(files[i].path, tail), members), strict=True))
    for group in groups:
        same: dict[bytes | None, list[int]] = defaultdict(list)
        for i in group:
            same[digests[i]].append(i)
        same.pop(None, None)
        result += [equal for equal in same.values() if len(equal) > 1]
    return result


def digest(path: Path, tail: int | None) -> bytes | None:
    """Return the SHA-1 of a file's last `tail` bytes, or of the whole file; None if it cannot be read."""
    try:
        with path.open("rb") as stream:
            if tail is not None:
                stream.seek(max(0, stream.seek(0, 2) - tail))
            return hashlib.sha1(stream.read()).digest() if tail else hashlib.file_digest(stream, "sha1").digest()
    except OSError:
        return None


def duplicate_faults(
    files: Sequence[ListedImage], groups: list[list[int]], near: dict[int, tuple[int, bool]], names: Sequence[str]
) -> list[Fault]:
    """Return a fault for each image that is like an earlier one, and another if their classes or annotations differ.

    Args:
        groups: the indices of files with the same bytes.
        near: the result of `near.near_images`.
        names: the class names.
    """
    faults: list[Fault] = []
    same = {j: _partner(files, group[:count], j) for group in groups for count, j in enumerate(group) if count}
    for j, i in same.items():
        faults += _pair_faults(files, i, j, "", names)
    for j, (i, equal) in near.items():
        if j not in same:
            faults += _pair_faults(files, i, j, "" if equal else "near-", names)
    return faults


def _partner(files: Sequence[ListedImage], earlier: list[int], j: int) -> int:
    """Return the first of the earlier images that is in another split than `j`, or else the first."""
    return next((i for i in earlier if files[i].split != files[j].split), earlier[0])


def _pair_faults(files: Sequence[ListedImage], i: int, j: int, near: str, names: Sequence[str]) -> list[Fault]:
    one, other = files[i], files[j]
    what = "listed twice: also as" if one.path == other.path else f"{near and 'nearly '}the same image as"
    faults: list[Fault] = []
    if one.split != other.split:
        message = f"{what} {one} of {one.split}; remove one of them, or the {other.split} figures flatter"
        faults.append(fault(f"{near}leak", other, message, one))
    if one.label is not None and other.label is not None and one.label != other.label:
        message = (
            f"'{names[other.label]}', but {what} {one}, which is '{names[one.label]}'; correct or remove one of them"
        )
        faults.append(fault("label-conflict", other, message, one))
    elif not near and None not in (targets := {one.hashable_target(), other.hashable_target()}) and len(targets) > 1:
        message = f"{what} {one}, but annotated otherwise; correct or remove one of them"
        faults.append(fault("label-conflict", other, message, one))
    return faults or [fault(f"{near}duplicate", other, f"{what} {one}; keep one of them", one)]


def tensor_faults(images: ImageList) -> list[Fault]:
    """Return faults for constant and for equal images, in the splits whose images are not files."""
    listed: list[ListedImage] = []
    faults: list[Fault] = []
    by_digest: dict[bytes, list[int]] = defaultdict(list)
    in_memory = {split: part for split, part in images.samples.items() if getattr(part, "paths", None) is None}
    total = sum(len(part) for part in in_memory.values())
    with tqdm(total=total, desc="reading images", disable=not sys.stderr.isatty(), leave=False) as bar:
        for split, samples in in_memory.items():
            labels: Sequence[int | None] = single_labels(samples) or [None] * len(samples)
            for index, label in enumerate(labels):
                pixels = samples.read(index).contiguous()
                image = ListedImage(f"sample {index} of {split}", split, label, None)
                if pixels.min() == pixels.max():
                    faults.append(fault("constant", image, "one colour all over; remove it"))
                else:
                    sha1 = hashlib.sha1(pixels.numpy().tobytes() + repr(pixels.shape).encode()).digest()
                    by_digest[sha1].append(len(listed))
                listed.append(image)
                bar.update()
    groups = [group for group in by_digest.values() if len(group) > 1]
    return faults + duplicate_faults(listed, groups, {}, images.class_names)
