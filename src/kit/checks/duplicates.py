"""Images that are there twice; where they are in two splits, a leak."""

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from kit.checks.headers import Header
from kit.checks.images import Image
from kit.ground.faults import Fault, fault
from kit.ground.threads import in_threads

TAIL = 16384  # bytes; a JPEG's end differs between images of equal length, its beginning often not


def same_bytes(
    files: Sequence[Image], headers: Mapping[int, Header], limit: int | None = None
) -> tuple[list[list[int]], int]:
    """Groups of files with the same content, in order.

    Files of a length that no other has are not read; of the rest the end, and all of it where ends agree.

    Args:
        limit: bytes to read of whole files; what would go beyond is left out, and its number returned.
    """
    lengths: dict[int, list[int]] = defaultdict(list)
    for i in sorted(headers):
        lengths[headers[i].bytes].append(i)
    whole: list[list[int]] = []
    long: list[list[int]] = []
    left_out = 0
    for group in _agreeing([group for group in lengths.values() if len(group) > 1], files, TAIL):
        length = headers[group[0]].bytes
        if length <= TAIL:
            whole.append(group)
        elif limit is None or length * len(group) <= limit:
            long.append(group)
            limit = None if limit is None else limit - length * len(group)
        else:
            left_out += len(group)
    return whole + _agreeing(long, files, None), left_out


def _agreeing(groups: list[list[int]], files: Sequence[Image], tail: int | None) -> list[list[int]]:
    """Those of each group that agree in their last `tail` bytes, or in all."""
    found: list[list[int]] = []
    members = [i for group in groups for i in group]
    digests = dict(zip(members, in_threads(lambda i: digest(files[i].path, tail), members), strict=True))
    for group in groups:
        same: dict[bytes | None, list[int]] = defaultdict(list)
        for i in group:
            same[digests[i]].append(i)
        same.pop(None, None)
        found += [alike for alike in same.values() if len(alike) > 1]
    return found


def digest(path: Path, tail: int | None) -> bytes | None:
    """Of a file's end, or of all of it; None where it cannot be read."""
    try:
        with path.open("rb") as stream:
            if tail is not None:
                stream.seek(max(0, stream.seek(0, 2) - tail))
            return hashlib.sha1(stream.read()).digest() if tail else hashlib.file_digest(stream, "sha1").digest()
    except OSError:
        return None


def duplicate_faults(
    files: Sequence[Image], groups: list[list[int]], near: dict[int, tuple[int, bool]], names: Sequence[str]
) -> list[Fault]:
    """One fault for each image that an earlier one is like; another where their classes, or all annotations, differ.

    Args:
        groups: of files with the same bytes.
        near: see `near.near_images`.
    """
    found: list[Fault] = []
    same = {j: _partner(files, group[:place], j) for group in groups for place, j in enumerate(group) if place}
    for j, i in same.items():
        found += _pair(files, i, j, "", names)
    for j, (i, equal) in near.items():
        if j not in same:
            found += _pair(files, i, j, "" if equal else "near-", names)
    return found


def _partner(files: Sequence[Image], earlier: list[int], j: int) -> int:
    """Of the earlier ones the first in another split, or the first."""
    return next((i for i in earlier if files[i].split != files[j].split), earlier[0])


def _pair(files: Sequence[Image], i: int, j: int, near: str, names: Sequence[str]) -> list[Fault]:
    one, other = files[i], files[j]
    what = "listed twice: also as" if one.path == other.path else f"{near and 'nearly '}the same image as"
    found: list[Fault] = []
    if one.split != other.split:
        told = f"{what} {one} of {one.split}; remove one of them, or the {other.split} figures flatter"
        found.append(fault(f"{near}leak", other, told, one))
    if one.label is not None and other.label is not None and one.label != other.label:
        told = f"'{names[other.label]}', but {what} {one}, which is '{names[one.label]}'; correct or remove one of them"
        found.append(fault("label-conflict", other, told, one))
    elif not near and None not in (answers := {one.answer(), other.answer()}) and len(answers) > 1:
        told = f"{what} {one}, but annotated otherwise; correct or remove one of them"
        found.append(fault("label-conflict", other, told, one))
    return found or [fault(f"{near}duplicate", other, f"{what} {one}; keep one of them", one)]
