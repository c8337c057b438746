"""Run the checks: the quick ones at the start of every run, or all of them."""

import time
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kit.checks.classes import class_faults, group_faults
from kit.checks.duplicates import duplicate_faults, group_equal, near_images, same_bytes, tensor_faults
from kit.checks.headers import header_faults, read_headers
from kit.checks.images import ImageList
from kit.checks.pixels import ImageStatistics, pixel_faults, read_statistics
from kit.data import ImageDataModule
from kit.ground.errors import UserError
from kit.ground.faults import Fault, fault

MAX_FILES = 10_000  # the number of files that are checked at the start of a run, in about a second
SMALLEST = 16  # the shorter side of images that are compared, in pixels


class Survey(NamedTuple):
    """The result of the checks.

    faults: the worst first.
    counts: the number of images in each split.
    notes: other messages, one line each.
    """

    faults: list[Fault]
    counts: dict[str, int]
    root: str
    seconds: float
    notes: list[str]

    @property
    def errors(self) -> int:
        return sum(fault.severity == "error" for fault in self.faults)


def quick_survey(datamodule: ImageDataModule, whole: bool = False) -> Survey:
    """Check names, headers and bytes of files. Without image files, there is nothing to check.

    Args:
        whole: check all files and the annotations; otherwise at most `MAX_FILES` files, evenly spaced.
    """
    started, images, notes = time.monotonic(), ImageList.of(datamodule), list[str]()
    if not images.files:
        return _survey([], datamodule, images, started, notes)
    files = images.files if whole else images.files[:: -(-len(images.files) // MAX_FILES)]
    if len(files) < len(images.files):
        notes.append(f"to start soon, {len(files):,} of {len(images.files):,} files were checked, evenly spaced")
    headers, faults = read_headers(files)
    faults += header_faults(files, headers)
    faults += duplicate_faults(files, same_bytes(files, headers), {}, images.class_names)
    known = {"train": datamodule.class_counts} if "train" in images.samples else {}
    faults += _class_faults(datamodule, images, known)
    if whole:
        faults += datamodule.annotation_faults()
    return _survey(faults, datamodule, images, started, notes)


def full_survey(datamodule: ImageDataModule) -> Survey:
    """Run all checks. Every image is read once."""
    started = time.monotonic()
    faults: list[Fault] = []
    images = ImageList([], [], {}, [])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about left-out files, which are among the faults
            faults += datamodule.annotation_faults()
            images = ImageList.of(datamodule)
            faults += _class_faults(datamodule, images, {})
        if "train" not in images.samples:
            raise UserError("there are no training images")
    except UserError as error:
        faults.append(fault("unusable", "", f"training would stop here: {str(error).splitlines()[0]}"))
    if images.files:
        statistics = read_statistics(images.files)
        faults += statistics.faults + header_faults(images.files, statistics.headers)
        faults += pixel_faults(images.files, statistics)
        groups = group_equal(statistics.headers, lambda i: statistics.table["bytes"][i])
        near = near_images(images.files, statistics, _comparable(statistics, groups))
        faults += duplicate_faults(images.files, groups, near, images.class_names)
    return _survey(faults + tensor_faults(images), datamodule, images, started, [])


def _comparable(statistics: ImageStatistics, groups: list[list[int]]) -> np.ndarray:
    """Return the indices of the images to compare: those with contrast and of some size, and one of equal files."""
    repeated = {i for group in groups for i in group[1:]}
    large = [i for i, header in statistics.headers.items() if min(header.height, header.width) >= SMALLEST]
    indices = np.array([i for i in large if i not in repeated], dtype=int)
    return indices[statistics.table["high"][indices] - statistics.table["low"][indices] > 2]


def _class_faults(datamodule: ImageDataModule, images: ImageList, counts: dict[str, list[int]]) -> list[Fault]:
    """Return the faults of classes and groups. counts: the class counts of the splits for which they are known."""
    missing = {split: part for split, part in images.samples.items() if split not in counts}
    counts = counts | {split: datamodule.count_classes(samples) for split, samples in missing.items()}
    return class_faults(images.class_names, counts) + group_faults(images.files)


def _survey(
    faults: Iterable[Fault], datamodule: ImageDataModule, images: ImageList, started: float, notes: list[str]
) -> Survey:
    counts = {split: len(samples) for split, samples in images.samples.items()}
    return Survey(worst_first(faults), counts, str(datamodule.root), time.monotonic() - started, notes)


def worst_first(faults: Iterable[Fault]) -> list[Fault]:
    """Sort faults, without repetitions: errors before warnings, then by the frequency of their kind, then by file."""
    faults = list(dict.fromkeys(faults))
    counts = Counter(fault.kind for fault in faults)

    def rank(fault: Fault) -> tuple:
        return fault.severity != "error", -counts[fault.kind], fault.kind, fault.file, fault.line or 0

    return sorted(faults, key=rank)
