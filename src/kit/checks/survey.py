"""The checks, put together: the quick ones of every run, and all of them."""

import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kit.checks.classes import class_faults, group_faults
from kit.checks.duplicates import duplicate_faults, same_bytes
from kit.checks.headers import Header, header_faults, read_headers
from kit.checks.images import Images
from kit.checks.near import near_images
from kit.checks.pixels import Figures, pixel_faults, read_images
from kit.checks.tensors import tensor_faults
from kit.data import ImageDataModule, Samples
from kit.ground.errors import UserError
from kit.ground.faults import Fault, fault

SECONDS = 1.0  # for the headers of a run that is about to start
BYTES = 200_000_000  # to read then of files whose length and end are another's
SMALLEST = 16  # the sides of an image whose likeness says something


class Survey(NamedTuple):
    """faults: the worst first. counts: images of each split. notes: what else is to be said, a line each."""

    faults: list[Fault]
    counts: dict[str, int]
    root: str
    seconds: float
    notes: list[str]

    @property
    def errors(self) -> int:
        return sum(found.severity == "error" for found in self.faults)


def quick(datamodule: ImageDataModule, whole: bool = False) -> Survey:
    """What names, headers and bytes tell; nothing where images come from no files.

    Args:
        whole: of every file, and of the annotations; otherwise of as many as can be read in about a second.
    """
    started, images = time.monotonic(), Images.of(datamodule)
    if not images.files:
        return _survey([], datamodule, images, started)
    headers = read_headers(images.files, None if whole else SECONDS)
    groups, left_out = same_bytes(
        images.files, {i: h for i, h in headers.items() if isinstance(h, Header)}, None if whole else BYTES
    )
    found = header_faults(images.files, headers) + duplicate_faults(images.files, groups, {}, images.class_names)
    found += _counted(datamodule, images) + group_faults(images.files)
    if whole:
        found += datamodule.annotation_faults()
    skipped = len(images.files) - len(headers) + left_out
    notes = [f"{skipped:,} of {len(images.files):,} files were left out, to start soon"] if skipped else []
    return _survey(found, datamodule, images, started, notes)


def thorough(datamodule: ImageDataModule) -> Survey:
    """All that can be told, every image read once."""
    started = time.monotonic()
    found: list[Fault] = []
    images = Images([], {}, [])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is left out: it is among the faults
            found += datamodule.annotation_faults()
            images = Images.of(datamodule)
            found += _counted(datamodule, images)
    except UserError as error:
        found.append(fault("unusable", "", f"training would stop here: {str(error).splitlines()[0]}"))
    else:
        if "train" not in images.samples:
            found.append(fault("unusable", "", "training would stop here: there are no training images"))
    if not any(map(len, images.samples.values())):
        return _survey(found, datamodule, images, started)
    files, read = images.files, read_images(images.files)
    found += header_faults(files, dict(enumerate(read.headers))) + group_faults(files) + pixel_faults(files, read)
    groups = _equal(read)
    near = near_images(files, read, _comparable(read, groups))
    found += duplicate_faults(files, groups, near, images.class_names) + tensor_faults(images)
    return _survey(found, datamodule, images, started)


def _equal(read: Figures) -> list[list[int]]:
    """Groups of files with the same bytes."""
    same: dict[int, list[int]] = defaultdict(list)
    for i in np.flatnonzero(read.whole).tolist():
        same[int(read.table["bytes"][i])].append(i)
    return [group for group in same.values() if len(group) > 1]


def _comparable(read: Figures, groups: list[list[int]]) -> np.ndarray:
    """bool[N]: images whose likeness to others says something; of equal files the first stands for all."""
    sides = [min(header.height, header.width) if isinstance(header, Header) else 0 for header in read.headers]
    comparable = (read.table["high"] - read.table["low"] > 2) & (np.array(sides) >= SMALLEST)
    comparable[[i for group in groups for i in group[1:]]] = False
    return comparable


def _counted(datamodule: ImageDataModule, images: Images) -> list[Fault]:
    counts = {split: datamodule.count_classes(samples) for split, samples in images.samples.items() if split != "train"}
    if "train" in images.samples:
        counts = {"train": _counted_train(datamodule, images.samples["train"]), **counts}
    return class_faults(images.class_names, counts)


def _counted_train(datamodule: ImageDataModule, samples: Samples) -> list[int]:
    try:
        return datamodule.class_counts  # which are kept
    except UserError:  # training would stop at a fault that is listed; the others are counted
        return datamodule.count_classes(samples)


def _survey(
    found: Iterable[Fault], datamodule: ImageDataModule, images: Images, started: float, notes: Iterable[str] = ()
) -> Survey:
    counts = {split: len(samples) for split, samples in images.samples.items()}
    return Survey(
        worst_first(found), counts, str(getattr(datamodule, "root", "")), time.monotonic() - started, list(notes)
    )


def worst_first(found: Iterable[Fault]) -> list[Fault]:
    """Errors, then warnings; of each the kind with most faults first, and file by file in it."""
    found = list(dict.fromkeys(found))
    often = Counter(one.kind for one in found)
    return sorted(found, key=lambda one: (one.severity != "error", -often[one.kind], one.kind, one.file, one.line or 0))
