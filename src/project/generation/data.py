"""Data modules of images with labels. The target of a sample is the index of its class in `class_names`.

Each also takes the arguments of `kit.data.ImageDataModule`, such as batch_size, augment and cache.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from kit.data import Files, Samples
from kit.data.decode import Channels, ImageSize, find_channels
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
from kit.samples import SignedImages


class Digits(SignedImages, DigitsDataModule):
    """1,797 handwritten digits of 8x8 pixels, see `kit.data.digits`."""


class TorchvisionDataset(SignedImages, TorchvisionDataModule):
    """A data set of torchvision. See `kit.data.torchvision_data` for the arguments."""


class ImageFolder(SignedImages):
    """A folder for each class: `root/train|val|test/CLASS/*.jpg` or `root/CLASS/*.jpg`.

    If there are no class folders in `root/train|val|test` or `root`, all images there are of one class.

    Args:
        root: the folder of the data set.
        image_size: the height and width to which every image is resized.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    def __init__(
        self, root: str = "data", image_size: ImageSize = (32, 32), channels: Channels | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), tuple(image_size), channels
        self.report_fault = FaultCollector()
        self.folders = split_folders(self.root)
        if not any(self.folders.values()):
            self.folders["train"] = self.root

    def find_class_names(self) -> list[str]:
        parent = self.folders["train"] or self.root
        return [folder.name for folder in folders(parent) if images(folder)] or ["image"]

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self.split("train").paths)

    def load_split(self, split: str) -> Samples | None:
        parent = self.folders[split]
        if parent is None:
            return None
        paths: list[Path] = []
        targets: list[int] = []
        by_class = {folder: files for folder in folders(parent) if (files := images(folder))} or {
            parent: images(parent)
        }
        for class_folder, files in by_class.items():
            name = "image" if class_folder == parent else class_folder.name
            if name not in self.class_names:
                hint = did_you_mean(name, self.class_names)
                self.report_fault("class-unknown", class_folder, f"training has no class '{name}'{hint}")
                continue
            paths += files
            targets += [self.class_names.index(name)] * len(files)
        if not paths:
            raise UserError(f"no images in {parent}; expected {parent}/CLASS/*.jpg, or {parent}/*.jpg (or .png, ...)")
        # `self.in_channels` would load the training split again, so it is not used for train.
        channels = self.channels or (find_channels(paths) if split == "train" else self.in_channels)
        return Files(torch.tensor(targets), paths, channels, self.image_size)

    def annotation_faults(self) -> Iterable[Fault]:
        self.report_fault.faults = faults = []  # from now on, faults are collected instead of raised
        self.splits()
        yield from faults
        for folder in filter(None, self.folders.values()):
            if any(images(class_folder) for class_folder in folders(folder)):
                yield from images_beside_classes(folder)
            yield from unused_files(folder)
