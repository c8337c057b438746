"""Run the checks: the quick ones at the start of every run, or all of them."""

import time
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from kit.checks.classes import class_faults, group_faults
from kit.checks.duplicates import duplicate_faults, group_equal, same_bytes, similar_images, tensor_faults
from kit.checks.headers import header_faults, read_headers
from kit.checks.images import ImageList
from kit.checks.pixels import ImageStatistics, pixel_faults, read_statistics
from kit.data import ImageDataModule
from kit.data.description import describe
from kit.data.samples import evenly_spaced_part
from kit.ground.errors import UserError
from kit.ground.faults import Fault, fault

MAX_FILES = 10_000  # the number of files that the quick survey checks, in about a second
MIN_SIDE = 16  # pixels; images with a shorter side are not compared


class Survey(NamedTuple):
    """The result of the checks.

    faults: sorted by `worst_first`.
    counts: the number of images in each split.
    root: the data's folder.
    notes: other messages, one line each.
    description: the line about the data, see `kit.data.description.describe`; "" if the data cannot be read.
    """

    faults: list[Fault]
    counts: dict[str, int]
    root: str
    seconds: float
    notes: list[str]
    description: str = ""

    @property
    def errors(self) -> int:
        return sum(fault.severity == "error" for fault in self.faults)


def quick_survey(data: ImageDataModule, all_files: bool = False) -> Survey:
    """Check the classes, and the names, headers and bytes of image files. Data in memory are not checked.

    Args:
        all_files: check all files and the annotations. By default, check at most `MAX_FILES` files, evenly spaced.
    """
    started, images, notes = time.monotonic(), ImageList.of(data), list[str]()
    if not images.files:
        return _survey([], data, images, started, notes)
    files = images.files if all_files else evenly_spaced_part(images.files, MAX_FILES)
    headers, faults = read_headers(files)
    if len(files) < len(images.files):
        notes.append(f"to save time, {len(files):,} of {len(images.files):,} files were checked, evenly spaced")
    faults += header_faults(files, headers)
    faults += duplicate_faults(files, same_bytes(files, headers), {}, images.class_names)
    known_counts = {"train": data.class_counts} if "train" in images.samples else {}
    faults += _class_faults(data, images, known_counts)
    if all_files:
        faults += data.annotation_faults()
    return _survey(faults, data, images, started, notes)


def full_survey(data: ImageDataModule, size_is_known: bool = True) -> Survey:
    """Run all checks, including those that decode every image. size_is_known: see `kit.data.description.describe`."""
    started = time.monotonic()
    faults: list[Fault] = []
    images, description = ImageList([], [], {}, []), ""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the warnings are about faults that are listed anyway
            faults += data.annotation_faults()
            images = ImageList.of(data)
            faults += _class_faults(data, images, {})
            if images.samples:
                val_is_split_off = "train" in images.samples and "val" not in images.samples
                description = describe(data, images.samples, val_is_split_off, size_is_known)
        if "train" not in images.samples:
            raise data.missing("train")
    except UserError as error:
        faults.append(fault("unusable", "", f"training would stop here: {str(error).splitlines()[0]}"))
    if images.files:
        statistics = read_statistics(images.files)
        faults += statistics.faults + header_faults(images.files, statistics.headers)
        faults += pixel_faults(images.files, statistics)
        groups = group_equal(statistics.headers, lambda i: statistics.table["file_hash"][i])
        similar = similar_images(images.files, statistics, _indices_to_compare(statistics, groups))
        faults += duplicate_faults(images.files, groups, similar, images.class_names)
    return _survey(faults + tensor_faults(images), data, images, started, [])._replace(description=description)


def _indices_to_compare(statistics: ImageStatistics, groups: list[list[int]]) -> np.ndarray:
    """Return the indices of the images to compare: not tiny, not of one colour, and no copy of an earlier file.

    Args:
        groups: the indices of equal files.
    """
    repeated = {i for group in groups for i in group[1:]}
    large = [i for i, header in statistics.headers.items() if min(header.height, header.width) >= MIN_SIDE]
    indices = np.array([i for i in large if i not in repeated], dtype=int)
    return indices[statistics.table["p99"][indices] - statistics.table["p1"][indices] > 2]


def _class_faults(data: ImageDataModule, images: ImageList, known_counts: dict[str, list[int]]) -> list[Fault]:
    """Return the faults of classes and groups. known_counts: the class counts of splits that are counted already."""
    counts = {split: known_counts.get(split) or data.count_classes(part) for split, part in images.samples.items()}
    return class_faults(images.class_names, counts) + group_faults(images.files)


def _survey(faults: list[Fault], data: ImageDataModule, images: ImageList, started: float, notes: list[str]) -> Survey:
    counts = {split: len(samples) for split, samples in images.samples.items()}
    if counts and data.several_labels:
        unlabelled = {split: int((samples.targets.sum(1) == 0).sum()) for split, samples in images.samples.items()}
        listed = ", ".join(f"{count:,} in {split}" for split, count in unlabelled.items())
        notes = [*notes, f"images without any label: {listed}"]
    return Survey(worst_first(faults), counts, str(data.root), time.monotonic() - started, notes)


def worst_first(faults: Iterable[Fault]) -> list[Fault]:
    """Sort faults by severity, frequency of their kind, and file, and drop repetitions."""
    faults = list(dict.fromkeys(faults))
    counts = Counter(fault.kind for fault in faults)
    return sorted(faults, key=lambda f: (f.severity != "error", -counts[f.kind], f.kind, f.file, f.line or 0))
