"""Data modules of images with labels. The target of a sample is the index of its class in `class_names`.

Each also takes the arguments of `kit.data.ImageDataModule`: batch_size, augment, cache, mean, std, balanced, ...
"""

import csv
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from kit.data import Files, ImageDataModule, Samples
from kit.data.decode import find_channels
from kit.data.digits import DigitsDataModule
from kit.data.torchvision_data import TorchvisionDataModule
from kit.formats.folders import (
    SPLITS,
    FaultCollector,
    data_folder,
    folders,
    groups_by_name,
    images,
    images_beside_classes,
    split_folders,
    unused_files,
)
from kit.ground.errors import UserError, did_you_mean
from kit.ground.faults import Fault
from kit.ground.files import MAX_LIST_BYTES, read_text


class Digits(DigitsDataModule):
    """1,797 handwritten digits of 8x8 pixels, see `kit.data.digits`."""


class ImageFolder(ImageDataModule):
    """A folder for each class: `root/train|val|test/CLASS/*.jpg`, or `root/CLASS/*.jpg` without splits.

    Args:
        root: the folder of the data set.
        image_size: the height and width to which every image is resized.
        group: a regular expression such as `^(patient\\d+)_`. Images whose file names match it with the same first
            capture group stay in one split.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    def __init__(
        self,
        root: str = "data",
        image_size: tuple[int, int] = (64, 64),
        group: str | None = None,
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.group, self.channels = data_folder(root), tuple(image_size), group, channels
        self.report_fault = FaultCollector()
        self.folders = split_folders(self.root)
        if not any(self.folders.values()):
            self.folders["train"] = self.root

    def find_class_names(self) -> list[str]:
        parent = self.folders["train"] or self.root
        names = [folder.name for folder in folders(parent)]
        if not names:
            raise UserError(f"no class folders in {parent}; expected {parent}/CLASS/*.jpg")
        return names

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self.split("train").paths)

    def load_split(self, split: str) -> Samples | None:
        folder = self.folders[split]
        if folder is None:
            return None
        paths: list[Path] = []
        targets: list[int] = []
        for class_folder in folders(folder):
            name = class_folder.name
            if name not in self.class_names:
                hint = did_you_mean(name, self.class_names)
                self.report_fault("class-unknown", class_folder, f"training has no class '{name}'{hint}")
                continue
            files = images(class_folder)
            if not files and split == "train":
                self.report_fault(
                    "class-empty", class_folder, "no images of this class; add some, or remove the folder"
                )
            paths += files
            targets += [self.class_names.index(name)] * len(files)
        if not paths:
            raise UserError(f"no images in {folder}; expected {folder}/CLASS/*.jpg (or .png, .webp, .tif, ...)")
        # `self.in_channels` would load the training split again, unless a checkpoint has set it.
        is_unknown = split == "train" and "in_channels" not in vars(self)
        channels = self.channels or (find_channels(paths) if is_unknown else self.in_channels)
        groups = groups_by_name(paths, self.group, self.report_fault)
        return Files(torch.tensor(targets), paths, channels, self.image_size, groups=groups)

    def annotation_faults(self) -> Iterable[Fault]:
        self.report_fault.faults = faults = []  # from now on, faults are collected instead of raised
        self.splits()
        yield from faults
        for folder in filter(None, self.folders.values()):
            yield from images_beside_classes(folder)
            for class_folder in folders(folder):
                yield from unused_files(class_folder)


class Csv(ImageDataModule):
    """A table with the columns `path` and `label`, and optionally `split` (train, val or test) and `group`.

    Images of one `group` stay in one split.

    Args:
        root: the folder of the table, to which its paths are relative.
        file: the file name of the table.
        image_size, channels: as in `ImageFolder`.
    """

    def __init__(
        self,
        root: str = "data",
        file: str = "labels.csv",
        image_size: tuple[int, int] = (64, 64),
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = Path(root), tuple(image_size), channels
        self.table = self.root / file
        if not self.table.is_file():
            path = self.table.absolute()
            raise UserError(f"no table at {path}; give its folder with --data.root and its name with --data.file")
        self.report_fault = FaultCollector()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        return _read_rows(self.table, self.report_fault)

    def find_class_names(self) -> list[str]:
        labels = {row["label"] for row in self.rows if row["split"] == "train"}
        return sorted(labels or {row["label"] for row in self.rows})

    def find_in_channels(self) -> int:
        return self.channels or find_channels([self.root / row["path"] for row in self.rows])

    def load_split(self, split: str) -> Samples | None:
        rows = []
        for row in self.rows:
            label, line = row["label"], row["line"]
            if row["split"] == split and label in self.class_names:
                rows.append(row)
            elif row["split"] == split:
                hint = did_you_mean(label, self.class_names)
                self.report_fault("class-unknown", self.table, f"training has no class '{label}'{hint}", line)
        if not rows:
            return None
        targets = torch.tensor([self.class_names.index(row["label"]) for row in rows])
        paths = [self.root / row["path"] for row in rows]
        groups = [row["group"] for row in rows] if "group" in rows[0] else None
        return Files(targets, paths, self.in_channels, self.image_size, groups=groups)

    def annotation_faults(self) -> Iterable[Fault]:
        self.report_fault.faults = faults = []  # from now on, faults are collected instead of raised
        self.splits()
        yield from faults
        listed = {(self.root / row["path"]).resolve() for row in self.rows}
        for path in images(self.root):
            if path.resolve() not in listed:
                message = f"not used, since it is not in {self.table.name}; add a row for it"
                yield Fault("annotation-missing", "warning", str(path), None, message)


class TorchvisionDataset(TorchvisionDataModule):
    """A classification data set of torchvision. See `kit.data.torchvision_data` for the arguments."""


@contextmanager
def _open_table(table: Path) -> Iterator[StringIO]:
    """Open a table for the `csv` module, whose errors become `UserError`s with the line."""
    lines = StringIO(read_text(table, MAX_LIST_BYTES), newline="")
    try:
        yield lines
    except csv.Error as error:
        line = lines.getvalue()[: lines.tell()].count("\n")
        raise UserError(f"{table}:{line}: broken CSV ({error})") from None


def _read_rows(table: Path, report_fault: FaultCollector) -> list[dict[str, Any]]:
    """Return the usable rows, with their `line` in the file and a `split`, which is train by default."""
    with _open_table(table) as lines:
        reader = csv.DictReader(lines)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        missing = {"path", "label"} - set(reader.fieldnames)
        if missing:
            header = ",".join(reader.fieldnames)
            raise UserError(f"{table}:1: no column named {' or '.join(sorted(missing))}; the header is {header}")
        rows = []
        for cells in reader:
            row: dict[str, Any] = {name: (cell or "").strip() for name, cell in cells.items() if name is not None}
            row["line"] = reader.line_num
            row["split"] = (row.get("split") or "train").lower()
            if None in cells:
                message = "a row with more cells than the header has; put text with commas in quotes"
                report_fault("bad-row", table, message, reader.line_num)
            elif not row["path"] or not row["label"]:
                report_fault("no-label", table, "a row without a path or a label", reader.line_num)
            elif row["split"] not in SPLITS:
                message = f"split '{row['split']}' is not one of train, val, test"
                report_fault("unknown-split", table, message, reader.line_num)
            else:
                rows.append(row)
    if not rows:
        raise UserError(f"{table}: no usable rows")
    return rows
