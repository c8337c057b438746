"""Data modules of images for pretraining. Their classes are only used to measure the features.

The target of a sample is the index of its class in `class_names`. Both data modules also take the arguments of
`kit.data.ImageDataModule`, such as batch_size, augment and cache.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from kit.data import Files, ImageDataModule, Samples
from kit.data.decode import Channels, ImageSize, find_channels
from kit.data.digits import DigitsDataModule
from kit.data.image_size import LABELS, choose_image_size, read_image_sizes
from kit.formats.class_folders import ClassFolders
from kit.formats.folders import data_folder, images, unused_files
from kit.ground.errors import UserError
from kit.ground.faults import Fault


class Digits(DigitsDataModule):
    """1,797 handwritten digits of 8x8 pixels, see `kit.data.digits`."""


class ImageFolder(ImageDataModule):
    """All images in a folder and below it, or in its folders `train`, `val` and `test`.

    If there are several folders with images in `root` (or in `train`), they are the classes.

    Args:
        root: the folder of the images.
        image_size: the height and width to which every image is resized; by default, they are chosen by the sizes of
            the training images: see `kit.data.image_size`.
        channels: 1, 3 or 4; by default, 1 if a sample of the images is all grey, else 3.
    """

    format_name = "images in folders"

    def __init__(
        self, root: str = "data", image_size: ImageSize | None = None, channels: Channels | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), image_size and tuple(image_size), channels
        self.folders = _FilledClassFolders(self.root)
        if not images(self.folders.first_split):
            raise UserError(f"no images in {self.root} (.jpg, .png, ...); give another folder with --data.root")

    def find_class_names(self) -> list[str]:
        names = self.folders.names()
        return names if len(names) > 1 else ["image"]

    def find_in_channels(self) -> int:
        return self.channels or find_channels(images(self.folders.first_split))

    def find_image_size(self) -> tuple[int, int]:
        return choose_image_size(read_image_sizes(images(self.folders.first_split)), [], LABELS)

    def load_split(self, split: str) -> Samples | None:
        folder = self.folders.splits[split]
        if folder is not None and len(self.class_names) == 1:
            paths = images(folder)
            return Files(torch.zeros(len(paths), dtype=torch.long), paths, self.in_channels, self.input_size)
        labelled = self.folders.read(split, self.class_names)
        if labelled is None:
            return None
        paths, targets, _ = labelled
        return Files(targets, paths, self.in_channels, self.input_size)

    def annotation_faults(self) -> Iterable[Fault]:
        yield from self.folders.report_fault.collect(self.load_splits)
        yield from self.folders.unused() if self.num_classes > 1 else unused_files(self.root)


class _FilledClassFolders(ClassFolders):
    """Class folders. Folders without images are no classes."""

    def classes(self, parent: Path) -> list[tuple[str, Path]]:
        return [pair for pair in super().classes(parent) if self.images(pair[1])]
