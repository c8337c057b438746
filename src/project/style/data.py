"""The data module of photographs to paint, with values in [-1, 1].

It also takes the arguments of `kit.data.ImageDataModule`, such as batch_size, augment and cache.
"""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kit.data import Files, Samples
from kit.data.decode import Channels, ImageSize, find_channels
from kit.formats.folders import data_folder, images, unused_files
from kit.ground.errors import UserError
from kit.ground.faults import Fault
from kit.samples import SignedImages


class Photos(SignedImages):
    """All images in a folder, at any depth, without classes. A tenth of them is for validation.

    The trained model can paint images of any size.

    Args:
        root: the folder of the data set.
        image_size: the height and width to which every image is resized for training and validation.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA). By default, it is 3 if any of up to 63 sampled image files is stored in
            colour, else 1.
    """

    format_name = "photographs"

    def __init__(
        self, root: str = "data", image_size: ImageSize = (192, 256), channels: Channels | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), tuple(image_size), channels

    @cached_property
    def paths(self) -> list[Path]:
        paths = images(self.root)
        if not paths:
            raise UserError(f"no images in {self.root} (.jpg, .png, ...); give another folder with --data.root")
        return paths

    def find_class_names(self) -> list[str]:
        return ["image"]

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self.paths)

    def load_split(self, split: str) -> Samples | None:
        if split != "train":
            return None
        classes = torch.zeros(len(self.paths), dtype=torch.long)
        return Files(classes, self.paths, self.in_channels, self.image_size)

    def annotation_faults(self) -> Iterable[Fault]:
        yield from unused_files(self.root)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "size": None}  # None lets `predict` take images of any size
