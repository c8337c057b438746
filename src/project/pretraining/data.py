"""Data modules of images for pretraining. Their classes are only used to measure the features.

The target of a sample is the index of its class in `class_names`, or -1 if it has no class. Both data modules also take
the arguments of `kit.data.ImageDataModule`, such as batch_size, augment and cache.
"""

import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from kit.data import Files, ImageDataModule, Samples
from kit.data.decode import EXTENSIONS, Channels, ImageSize, find_channels
from kit.data.digits import DigitsDataModule
from kit.data.image_size import LABEL_SIZE_RULE, choose_image_size, read_image_sizes
from kit.formats.class_folders import NOT_USED, ClassFolders, class_name
from kit.formats.folders import data_folder, files_in, unused_files
from kit.ground.errors import UserError
from kit.ground.faults import Fault


class Digits(DigitsDataModule):
    """1,797 handwritten digits of 8x8 pixels, see `kit.data.digits`."""


class ImageFolder(ImageDataModule):
    """All images in a folder, at any depth. Folders `train`, `val` and `test`, each optional, are the splits.

    If several folders in `root` (or in `train`) have images, the names of these folders are the classes, and an image
    in none of them has the target -1. If at most one folder has images, all images are of the class `image`.

    Args:
        root: the folder of the images.
        image_size: the height and width to which every image is resized; by default, they are chosen from the sizes of
            the training images: see `kit.data.image_size`.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA). By default, it is 3 if any of up to 63 sampled image files is stored in
            colour, else 1.
    """

    format_name = "images in folders"

    def __init__(
        self, root: str = "data", image_size: ImageSize | None = None, channels: Channels | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), image_size and tuple(image_size), channels
        self.folders = ClassFolders(self.root)  # finds the splits
        if not self._training_images():
            raise UserError(f"no images in {self.root} (.jpg, .png, ...); give another folder with --data.root")
        for folder, message in self._unused_images():
            warnings.warn(f"{folder}: {message}", stacklevel=1)

    def _training_images(self) -> list[Path]:
        return self.folders.images(self.folders.first_split)

    def _unused_images(self) -> Iterator[tuple[Path, str]]:
        """Yield (folder, message) for images in no split: folders beside the splits, and the root's own images."""
        root = self.folders.root
        for folder in self.folders.other_folders():
            if self.folders.images(folder):
                yield folder, NOT_USED
        if self.folders.first_split != root and (images := files_in(root, EXTENSIONS)):
            yield root, f"{len(images):,} image(s) beside train, val and test are not used; move them into train"

    def find_class_names(self) -> list[str]:
        parent = self.folders.first_split
        names = {name for path in self._training_images() if (name := _first_folder_name(path, parent)) is not None}
        return sorted(names) if len(names) > 1 else ["image"]

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self._training_images())

    def find_image_size(self) -> tuple[int, int]:
        return choose_image_size(read_image_sizes(self._training_images()), [], LABEL_SIZE_RULE)

    def load_split(self, split: str) -> Samples | None:
        folder = self.folders.splits[split]
        if folder is None:
            return None
        paths = self.folders.images(folder)
        if not paths:
            raise UserError(f"no images in {folder} (.jpg, .png, ...); add some, or remove the folder")
        numbers: dict[str | None, int] = {name: number for number, name in enumerate(self.class_names)}
        default = -1 if len(numbers) > 1 else 0
        targets = torch.tensor([numbers.get(_first_folder_name(path, folder), default) for path in paths])
        return _Images(targets, paths, self.in_channels, self.input_size)

    def count_classes(self, samples: Samples) -> list[int]:
        """Return -1 (unknown) for each class, so that `check` does not complain about classes with few images."""
        return [-1] * self.num_classes

    def annotation_faults(self) -> Iterable[Fault]:
        for folder, message in self._unused_images():
            yield Fault("annotation-missing", "warning", str(folder), None, message)
        yield from unused_files(self.root)


class _Images(Files):
    """Images whose targets are class numbers, or -1 for images without a class.

    Since `has_class_numbers` is False, images are split at random, whatever their classes, and `check` does not compare
    the classes of duplicates.
    """

    has_class_numbers = False


def _first_folder_name(path: Path, parent: Path) -> str | None:
    """Return the name of the first folder between `parent` and an image: `a` for `parent/a/b/x.jpg`; or None."""
    names = path.relative_to(parent).parts
    return class_name(Path(names[0])) if len(names) > 1 else None
