"""Run the checks: the quick ones at the start of every run, or all of them."""

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kit.checks.classes import class_faults, group_faults
from kit.checks.duplicates import duplicate_faults, same_bytes, tensor_faults
from kit.checks.headers import Header, header_faults, read_headers
from kit.checks.images import ImageList
from kit.checks.near import near_images
from kit.checks.pixels import ImageStatistics, pixel_faults, read_statistics
from kit.data import ImageDataModule, Samples
from kit.ground.errors import UserError
from kit.ground.faults import Fault, fault

SECONDS = 1.0  # for reading headers at the start of a run
BYTES = 200_000_000  # to read at the start of a run, of files that have the length and the end of another
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
        whole: check all files and the annotations; otherwise as many files as can be read in about a second.
    """
    started, images = time.monotonic(), ImageList.of(datamodule)
    if not images.files:
        return _survey([], datamodule, images, started)
    headers = read_headers(images.files, None if whole else SECONDS)
    groups, left_out = same_bytes(
        images.files, {i: h for i, h in headers.items() if isinstance(h, Header)}, None if whole else BYTES
    )
    faults = header_faults(images.files, headers) + duplicate_faults(images.files, groups, {}, images.class_names)
    faults += _class_faults(datamodule, images) + group_faults(images.files)
    if whole:
        faults += datamodule.annotation_faults()
    skipped = len(images.files) - len(headers) + left_out
    notes = [f"{skipped:,} of {len(images.files):,} files were left out, to start soon"] if skipped else []
    return _survey(faults, datamodule, images, started, notes)


def full_survey(datamodule: ImageDataModule) -> Survey:
    """Run all checks. Every image is read once."""
    started = time.monotonic()
    faults: list[Fault] = []
    images = ImageList([], {}, [])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about left-out files, which are among the faults
            faults += datamodule.annotation_faults()
            images = ImageList.of(datamodule)
            faults += _class_faults(datamodule, images)
    except UserError as error:
        faults.append(fault("unusable", "", f"training would stop here: {str(error).splitlines()[0]}"))
    else:
        if "train" not in images.samples:
            faults.append(fault("unusable", "", "training would stop here: there are no training images"))
    if not any(map(len, images.samples.values())):
        return _survey(faults, datamodule, images, started)
    files, statistics = images.files, read_statistics(images.files)
    faults += header_faults(files, dict(enumerate(statistics.headers))) + group_faults(files)
    faults += pixel_faults(files, statistics)
    groups = _equal_files(statistics)
    near = near_images(files, statistics, _comparable(statistics, groups))
    faults += duplicate_faults(files, groups, near, images.class_names) + tensor_faults(images)
    return _survey(faults, datamodule, images, started)


def _equal_files(statistics: ImageStatistics) -> list[list[int]]:
    """Return groups of the indices of files with the same bytes."""
    same: dict[int, list[int]] = defaultdict(list)
    for i in np.flatnonzero(statistics.readable).tolist():
        same[int(statistics.table["bytes"][i])].append(i)
    return [group for group in same.values() if len(group) > 1]


def _comparable(statistics: ImageStatistics, groups: list[list[int]]) -> np.ndarray:
    """Return which images to compare, Bool[N]: those with contrast and of some size, and one of equal files."""
    sides = [min(header.height, header.width) if isinstance(header, Header) else 0 for header in statistics.headers]
    comparable = (statistics.table["high"] - statistics.table["low"] > 2) & (np.array(sides) >= SMALLEST)
    comparable[[i for group in groups for i in group[1:]]] = False
    return comparable


def _class_faults(datamodule: ImageDataModule, images: ImageList) -> list[Fault]:
    counts = {split: datamodule.count_classes(samples) for split, samples in images.samples.items() if split != "train"}
    if "train" in images.samples:
        counts = {"train": _count_train_classes(datamodule, images.samples["train"]), **counts}
    return class_faults(images.class_names, counts)


def _count_train_classes(datamodule: ImageDataModule, samples: Samples) -> list[int]:
    try:
        return datamodule.class_counts  # cached
    except UserError:  # training would stop at a fault, which is in the list
        return datamodule.count_classes(samples)


def _survey(
    faults: Iterable[Fault], datamodule: ImageDataModule, images: ImageList, started: float, notes: Iterable[str] = ()
) -> Survey:
    counts = {split: len(samples) for split, samples in images.samples.items()}
    root = str(getattr(datamodule, "root", ""))
    return Survey(worst_first(faults), counts, root, time.monotonic() - started, list(notes))


def worst_first(faults: Iterable[Fault]) -> list[Fault]:
    """Sort faults, without repetitions: errors before warnings, then by the frequency of their kind, then by file."""
    faults = list(dict.fromkeys(faults))
    counts = Counter(fault.kind for fault in faults)

    def rank(fault: Fault) -> tuple:
        return fault.severity != "error", -counts[fault.kind], fault.kind, fault.file, fault.line or 0

    return sorted(faults, key=rank)
