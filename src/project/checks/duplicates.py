"""Images that are there twice: by bytes, by pixels, or nearly; where they are in two splits, a leak."""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
from PIL import Image as Pillow
from PIL import ImageChops

from project.checks.faults import Fault, fault
from project.checks.headers import Header
from project.checks.images import Image, threads
from project.checks.pixels import Figures

DISTANCE = 6  # bits of 64 that the hashes of near images may differ in
TAIL = 4096  # bytes; a JPEG's end differs between images of equal length, its beginning often not
BLOCKS, KEPT = 9, 3  # 9 - 3 = 6 = DISTANCE
CHUNK = 100_000  # pairs compared at a time


def same_bytes(
    files: Sequence[Image], headers: dict[int, Header | Fault], limit: int | None = None
) -> tuple[list[list[int]], int]:
    """Groups of files with the same content, in order.

    Files of a length that no other has are not read; of the rest the end, and all of it where ends agree.

    Args:
        limit: bytes to read of whole files; what would go beyond is left out, and its number returned.
    """
    lengths: dict[int, list[int]] = defaultdict(list)
    for i, header in sorted(headers.items()):
        if isinstance(header, Header):
            lengths[header.bytes].append(i)
    with threads() as pool:
        groups = _agreeing([group for group in lengths.values() if len(group) > 1], files, TAIL, pool)
        whole, long, left_out = [], [], 0
        for group in groups:
            length = files[group[0]].path.stat().st_size
            if length <= TAIL:
                whole.append(group)
            elif limit is None or length * len(group) <= limit:
                long.append(group)
                limit = None if limit is None else limit - length * len(group)
            else:
                left_out += len(group)
        return whole + _agreeing(long, files, None, pool), left_out


def _agreeing(
    groups: list[list[int]], files: Sequence[Image], tail: int | None, pool: ThreadPoolExecutor
) -> list[list[int]]:
    """Those of each group that agree in their last `tail` bytes, or in all."""
    found: list[list[int]] = []
    members = [i for group in groups for i in group]
    digests = dict(zip(members, pool.map(lambda i: _digest(files[i].path, tail), members), strict=True))
    for group in groups:
        same: dict[bytes | None, list[int]] = defaultdict(list)
        for i in group:
            same[digests[i]].append(i)
        same.pop(None, None)
        found += [alike for alike in same.values() if len(alike) > 1]
    return found


def _digest(path: Path, tail: int | None) -> bytes | None:
    """Of a file's end, or of all of it; None where it cannot be read."""
    try:
        with path.open("rb") as stream:
            if tail is not None:
                stream.seek(max(0, stream.seek(0, 2) - tail))
            return hashlib.file_digest(stream, "sha1").digest()
    except OSError:
        return None


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


def near_pairs(files: Sequence[Image], read: Figures, candidates: np.ndarray) -> dict[int, tuple[int, float]]:
    """For each image that is nearly an earlier one: which, preferably of another split, and how far from it.

    Args:
        candidates: bool[N], the images to compare.
    """
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
    norm = np.sqrt((a**2).sum((1, 2)) * (b**2).sum((1, 2)))
    correlation = (a * b).sum((1, 2)) / np.maximum(norm, 1e-6)
    alike = (correlation > 0.993) | (correlation > 0.98) & (bits <= 2) | (correlation > 0.95) & (difference < 4)
    return np.where(alike, difference, np.inf)


def duplicate_faults(
    files: Sequence[Image], groups: list[list[int]], near: dict[int, tuple[int, float]], names: Sequence[str]
) -> list[Fault]:
    """One fault for each image that an earlier one is like; another where their classes differ.

    Args:
        groups: of files with the same bytes.
        near: see `near_pairs`.
    """
    found: list[Fault] = []
    same = {j: _partner(files, group[:place], j) for group in groups for place, j in enumerate(group) if place}
    for j, i in same.items():
        found += _pair(files, i, j, "", names)
    for j, (i, far) in near.items():
        if j not in same:
            equal = far < 1 and same_pixels(files[i].path, files[j].path)
            found += _pair(files, i, j, "" if equal else "near-", names)
    return found


def _partner(files: Sequence[Image], earlier: list[int], j: int) -> int:
    """Of the earlier ones the first in another split, or the first."""
    return next((i for i in earlier if files[i].split != files[j].split), earlier[0])


def _pair(files: Sequence[Image], i: int, j: int, near: str, names: Sequence[str]) -> list[Fault]:
    one, other = files[i], files[j]
    what = "nearly the same image as" if near else "the same image as"
    if one.path == other.path:
        what = "listed twice: also as"
    if one.split == other.split:
        found = [fault(f"{near}duplicate", other, f"{what} {one}; keep one of them", one)]
    else:
        told = f"{what} {one} of {one.split}; remove one of them, or the {other.split} figures flatter"
        found = [fault(f"{near}leak", other, told, one)]
    if one.label is not None and other.label is not None and one.label != other.label:
        told = f"is '{names[other.label]}', but {one}, {'nearly ' if near else ''}the same image, "
        found.append(fault("label-conflict", other, f"{told}is '{names[one.label]}'; correct one of them", one))
    return found


def same_pixels(one: Path, other: Path) -> bool:
    with Pillow.open(one) as a, Pillow.open(other) as b:
        if a.size != b.size:
            return False
        return ImageChops.difference(a.convert("RGBA"), b.convert("RGBA")).getbbox(alpha_only=False) is None
