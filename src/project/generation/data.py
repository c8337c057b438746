"""Data modules of images to learn from. The target of a sample is the index of its class in `class_names`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from kit.data import Files, Samples
from kit.data.decode import find_channels
from kit.data.digits import DigitsDataModule
from kit.data.torchvision_data import TorchvisionDataModule
from kit.formats.folders import (
    FaultCollector,
    data_folder,
    folders,
    images,
    images_beside_classes,
    split_folders,
    unused_files,
)
from kit.ground.errors import UserError, did_you_mean
from kit.ground.faults import Fault
from kit.samples import Centred


class Digits(Centred, DigitsDataModule):
    """1,797 real handwritten digits of 8x8 pixels, see `kit.data.digits`."""


class TorchvisionDataset(Centred, TorchvisionDataModule):
    """A data set of torchvision. `kit.data.torchvision_data` describes the arguments."""


class ImageFolder(Centred):
    """A folder for each class: `root/train|val|test/CLASS/*.jpg` or `root/CLASS/*.jpg`.

    Images without class folders, in `root/train|val|test` or `root`, are of one class.

    Args:
        root: the folder.
        image_size: the height and width that every image is resized to.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    def __init__(
        self, root: str = "data", image_size: tuple[int, int] = (32, 32), channels: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), tuple(image_size), channels
        self.complain = FaultCollector()
        self.folders = split_folders(self.root)
        if not any(self.folders.values()):
            self.folders["train"] = self.root

    def find_class_names(self) -> list[str]:
        folder = self.folders["train"] or self.root
        return [below.name for below in folders(folder) if images(below)] or ["image"]

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self.split("train").paths)

    def load_split(self, split: str) -> Samples | None:
        folder = self.folders[split]
        if folder is None:
            return None
        paths: list[Path] = []
        targets: list[int] = []
        by_class = {below: files for below in folders(folder) if (files := images(below))} or {folder: images(folder)}
        for class_folder, files in by_class.items():
            name = "image" if class_folder == folder else class_folder.name
            if name not in self.class_names:
                known = did_you_mean(name, self.class_names)
                self.complain("class-unknown", class_folder, f"the model has no class '{name}'{known}")
                continue
            paths += files
            targets += [self.class_names.index(name)] * len(files)
        if not paths:
            raise UserError(f"no images in {folder}; expected {folder}/CLASS/*.jpg, or {folder}/*.jpg (or .png, ...)")
        channels = self.channels or (find_channels(paths) if split == "train" else self.in_channels)
        return Files(torch.tensor(targets), paths, channels, self.image_size)

    def annotation_faults(self) -> Iterable[Fault]:
        self.complain.faults = faults = []  # from now on, faults are collected instead of raised
        self.splits()
        yield from faults
        for folder in filter(None, self.folders.values()):
            if any(images(below) for below in folders(folder)):
                yield from images_beside_classes(folder)
            yield from unused_files(folder)
