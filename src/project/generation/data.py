"""Data modules of images in [-1, 1] with labels. The target of a sample is the index of its class in `class_names`.

All data modules also take the arguments of `kit.data.ImageDataModule`, such as batch_size, augment and cache.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kit.data import Files, Samples
from kit.data.decode import Channels, ImageSize, find_channels
from kit.data.digits import DigitsDataModule
from kit.data.torchvision_data import TorchvisionDataModule
from kit.formats.class_folders import ClassFolders
from kit.formats.folders import data_folder
from kit.ground.faults import Fault
from kit.samples import SignedImages


class Digits(SignedImages, DigitsDataModule):
    """1,797 handwritten digits of 8x8 pixels, see `kit.data.digits`."""


class TorchvisionDataset(SignedImages, TorchvisionDataModule):
    """A data set of torchvision. See `kit.data.torchvision_data` for the arguments."""


class ImageFolder(SignedImages):
    """A folder for each class: `root/train|val|test/CLASS/*.jpg` or `root/CLASS/*.jpg`.

    If there are no class folders, all images are of the class `image`.

    Args:
        root: the folder of the data set.
        image_size: the height and width to which every image is resized.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA). By default, it is 3 if any of up to 63 sampled image files is stored in
            colour, else 1.
    """

    format_name = "images in folders"

    def __init__(
        self, root: str = "data", image_size: ImageSize = (32, 32), channels: Channels | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), tuple(image_size), channels
        self.folders = _OptionalClassFolders(self.root)
        self.folders.warn_about_other_folders()

    def find_class_names(self) -> list[str]:
        return self.folders.names()

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self.folders.examples())

    def load_split(self, split: str) -> Samples | None:
        labelled = self.folders.read(split, self.class_names)
        if labelled is None:
            return None
        paths, targets, _ = labelled
        return Files(targets, paths, self.in_channels, self.image_size)

    def annotation_faults(self) -> Iterable[Fault]:
        # Load the splits, and yield all of their faults instead of raising an error for the first one.
        yield from self.folders.report_fault.collect(self.load_splits)
        yield from self.folders.unused()


class _OptionalClassFolders(ClassFolders):
    """Class folders that contain images. If there are none, all images are of the class `image`."""

    def classes(self, parent: Path) -> list[tuple[str, Path]]:
        classes = [(name, folder) for name, folder in super().classes(parent) if self.images(folder)]
        return classes or [("image", parent)]
