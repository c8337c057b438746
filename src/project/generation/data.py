"""Images to learn from. A sample's target is its class's place in `class_names`; images without classes are of one."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from kit.data import Files, ImageDataModule, Samples
from kit.data.decode import channels_of
from kit.data.embedded import Embedded
from kit.data.published import Published
from kit.formats.complaints import Complaints, beside_classes, of_other_formats
from kit.formats.folders import data_folder, folders, images, split_folders
from kit.ground.errors import UserError, nearest
from kit.ground.faults import Fault


class Centred(ImageDataModule):
    """Pixels become numbers from -1 to 1. A test has the training images, too, since its report compares with them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if any(value != 0.5 for value in [*(self.mean or []), *(self.std or [])]):
            raise UserError("images are made from -1 to 1 here: leave data.mean and data.std out")

    def setup(self, stage: str) -> None:
        if self.mean is None:
            self.mean = self.std = [0.5] * self.in_channels
        super().setup("fit")


class Digits(Centred, Embedded):
    """1,797 real handwritten digits of 8x8 pixels; see `kit.data.embedded`."""


class TorchvisionDataset(Centred, Published):
    """A data set of torchvision; for its arguments see `kit.data.published`."""


class Photos(Centred):
    """All images in a folder and below it, without classes, to learn a style on; a tenth of them is for validation.

    What is learned may be used on images of any size.

    Args:
        root: the folder.
        image_size: height and width that every training image is resized to.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    def __init__(
        self, root: str = "data", image_size: tuple[int, int] = (192, 256), channels: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), tuple(image_size), channels

    def find_class_names(self) -> list[str]:
        return ["image"]

    def find_in_channels(self) -> int:
        return self.channels or channels_of(self._given("train").paths)

    def given(self, split: str) -> Samples | None:
        if split != "train":
            return None
        paths = images(self.root)
        if not paths:
            raise UserError(f"no images in {self.root} (.jpg, .png, ...); give another folder with --data.root")
        channels = self.channels or channels_of(paths)
        return Files(torch.zeros(len(paths), dtype=torch.long), paths, channels, self.image_size)

    def annotation_faults(self) -> Iterable[Fault]:
        yield from of_other_formats(self.root)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "size": None}


class ImageFolder(Centred):
    """`root/train|val|test/CLASS/*.jpg`, or `root/CLASS/*.jpg`; or images of one kind, in `root/train` or `root`.

    Args:
        root: the folder.
        image_size: height and width that every image is resized to.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    def __init__(
        self, root: str = "data", image_size: tuple[int, int] = (32, 32), channels: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), tuple(image_size), channels
        self.complain = Complaints()
        self.folders = split_folders(self.root)
        if not any(self.folders.values()):
            self.folders["train"] = self.root

    def find_class_names(self) -> list[str]:
        folder = self.folders["train"] or self.root
        return [below.name for below in folders(folder) if images(below)] or ["image"]

    def find_in_channels(self) -> int:
        return self.channels or channels_of(self._given("train").paths)

    def given(self, split: str) -> Samples | None:
        folder = self.folders[split]
        if folder is None:
            return None
        paths: list[Path] = []
        targets: list[int] = []
        kinds = {below: found for below in folders(folder) if (found := images(below))} or {folder: images(folder)}
        for kind, found in kinds.items():
            name = "image" if kind == folder else kind.name
            if name not in self.class_names:
                self.complain(
                    "class-unknown", kind, f"the model has no class '{name}'{nearest(name, self.class_names)}"
                )
                continue
            paths += found
            targets += [self.class_names.index(name)] * len(found)
        if not paths:
            raise UserError(f"no images in {folder}; expected {folder}/CLASS/*.jpg, or {folder}/*.jpg (or .png, ...)")
        channels = self.channels or (channels_of(paths) if split == "train" else self.in_channels)
        return Files(torch.tensor(targets), paths, channels, self.image_size)

    def annotation_faults(self) -> Iterable[Fault]:
        self.complain.noted = noted = []
        self.division()
        yield from noted
        for folder in filter(None, self.folders.values()):
            if any(images(below) for below in folders(folder)):
                yield from beside_classes(folder)
            yield from of_other_formats(folder)
