"""Data modules of images with labels. The target of a sample is the index of its class in `class_names`.

All of them also take the arguments of `kit.data.ImageDataModule`: batch_size, augment, cache, mean, std, balanced, ...
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kit.data import Files, ImageDataModule, Samples
from kit.data.decode import Channels, ImageSize, find_channels, validate_size
from kit.data.digits import DigitsDataModule
from kit.data.torchvision_data import TorchvisionDataModule
from kit.formats.class_folders import ClassFolders
from kit.formats.folders import FaultCollector, data_folder, groups_by_name, images, split_of
from kit.formats.paths import Finder
from kit.formats.tables import read_table
from kit.ground.errors import UserError, did_you_mean
from kit.ground.faults import Fault


class Digits(DigitsDataModule):
    """1,797 handwritten digits of 8x8 pixels, see `kit.data.digits`."""


class ImageFolder(ImageDataModule):
    """A folder for each class: `root/train|val|test/CLASS/*.jpg`, or `root/CLASS/*.jpg` without splits.

    Args:
        root: the folder of the data set.
        image_size: the height and width to which every image is resized; null takes the size for which the
            pretrained weights were trained.
        group: a regular expression such as `^(patient\\d+)_`. Files for which its first capture group has the same
            text are one group. If a validation part is split off from train, no group is divided.
        channels: 1, 3 or 4; by default, 1 if a sample of the images is all grey, else 3.
    """

    takes_size_of_weights = True

    def __init__(
        self,
        root: str = "data",
        image_size: ImageSize | None = (64, 64),
        group: str | None = None,
        channels: Channels | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.group, self.channels = data_folder(root), group, channels
        self.image_size = validate_size(image_size, "data.image_size")
        self.folders = ClassFolders(self.root)

    def find_class_names(self) -> list[str]:
        folder = self.folders.first_split
        expected = f"{folder}/CLASS/*.jpg (folders named train, val or test are splits)"
        return _require_two_classes(self.folders.names(), folder, expected)

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self.folders.examples())

    def load_split(self, split: str) -> Samples | None:
        labelled = self.folders.read(split, self.class_names)
        if labelled is None:
            return None
        paths, targets = labelled
        groups = groups_by_name(paths, self.group, self.folders.report_fault)
        return Files(torch.tensor(targets), paths, self.in_channels, self.image_size, groups=groups)

    def annotation_faults(self) -> Iterable[Fault]:
        yield from self.folders.report_fault.collect(self.load_splits)
        yield from self.folders.unused()


class Csv(ImageDataModule):
    """A table with the columns `path` and `label`, and optionally `split` (train, val or test) and `group`.

    The separator is a comma, a semicolon or a tab. If a validation part is split off from
    train, no `group` is divided.

    Args:
        root: the folder of the table. The paths in the table are relative to it.
        file: the file name of the table.
        image_size, channels: as in `ImageFolder`.
    """

    takes_size_of_weights = True

    def __init__(
        self,
        root: str = "data",
        file: str = "labels.csv",
        image_size: ImageSize | None = (64, 64),
        channels: Channels | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.channels = Path(root), channels
        self.image_size = validate_size(image_size, "data.image_size")
        self.table = self.root / file
        if not self.table.is_file():
            path = self.table.absolute()
            raise UserError(f"no table at {path}; give its folder with --data.root and its name with --data.file")
        self.listed_images: set[Path] = set()  # set by `rows`, with the images of rows that cannot be used
        # Each fault raises an error. Once `annotation_faults` has been called, faults are collected instead.
        self.report_fault = FaultCollector()

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The usable rows of the table. Each is a dict of the cells by column name, with these entries added:

        line: the number of the line, from 1.
        image: the path of the image.
        split: "train", "val" or "test".
        """
        rows: list[dict[str, Any]] = []
        find_image = Finder(lambda: images(self.root), [self.root])
        for line, cells in read_table(self.table, ("path", "label"), self.report_fault):
            split = split_of(cells.get("split") or "train")
            image = find_image(cells["path"]) or self.root / cells["path"] if cells["path"] else None
            if image:
                self.listed_images.add(image.resolve())
            if not image or not cells["label"]:
                self.report_fault("no-label", self.table, "a row without a path or a label", line)
            elif split is None:
                message = f"split '{cells['split']}' is not one of train, val, test"
                self.report_fault("unknown-split", self.table, message, line)
            elif cells.get("group") == "":
                message = "a row without a group; give each row one, or remove the column"
                self.report_fault("no-group", self.table, message, line)
            else:
                rows.append({**cells, "line": line, "image": image, "split": split})
        find_image.report_other_paths(self.table)
        if not rows:
            raise UserError(f"{self.table}: no usable rows")
        return rows

    def find_class_names(self) -> list[str]:
        labels = {row["label"] for row in self.rows if row["split"] == "train"}
        names = sorted(labels or {row["label"] for row in self.rows})
        return _require_two_classes(names, self.table, "two or more labels")

    def find_in_channels(self) -> int:
        return self.channels or find_channels([row["image"] for row in self.rows])

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
        paths = [row["image"] for row in rows]
        groups = [row["group"] for row in rows] if "group" in rows[0] else None
        return Files(targets, paths, self.in_channels, self.image_size, groups=groups)

    def annotation_faults(self) -> Iterable[Fault]:
        yield from self.report_fault.collect(self.load_splits)
        for path in images(self.root):
            if path.resolve() not in self.listed_images:
                message = f"not used, since it is not in {self.table.name}; add a row for it"
                yield Fault("annotation-missing", "warning", str(path), None, message)


class TorchvisionDataset(TorchvisionDataModule):
    """A classification data set of torchvision. See `kit.data.torchvision_data` for the arguments."""


def _require_two_classes(names: list[str], source: Path, expected: str) -> list[str]:
    """Return the class names.

    Raises:
        UserError: there are fewer than two names. The message contains `source`, the place that was searched, and
            `expected`, what should be there.
    """
    if len(names) < 2:
        found = f"'{names[0]}' is the only class" if names else "no class folders"
        raise UserError(f"{source}: {found}, but there must be at least two; expected {expected}")
    return names
