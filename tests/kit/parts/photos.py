"""Photographs, drawn by number, in folders of classes; and the least data module that reads them."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kit.data import Files, ImageDataModule
from kit.formats.folders import folders, images

CLEAN = {"train": {"cat": 12, "dog": 12}, "val": {"cat": 3, "dog": 3}}


def picture(number: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """A colourful scene of its own: soft patches, and edges."""
    random = np.random.default_rng(number)
    height, width = size
    patches = Image.fromarray(random.integers(0, 256, (6, 7, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.asarray(patches).astype(int) + random.normal(0, 9, (height, width, 3))
    for _ in range(5):
        y, x = random.integers(0, height - 12), random.integers(0, width - 12)
        pixels[y : y + 12, x : x + random.integers(5, 12)] = random.integers(0, 256, 3)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def write(root: str = "photos") -> Path:
    """`root/SPLIT/CLASS/N.jpg`, as many as `CLEAN` says."""
    number = 0
    for split, classes in CLEAN.items():
        for name, count in classes.items():
            folder = Path(root) / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                picture(number).save(folder / f"{place}.jpg", quality=92)
                number += 1
    return Path(root)


class Photos(ImageDataModule):
    """group: a regular expression whose first group, in a file's name, is its group."""

    def __init__(self, root: str = "photos", group: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.root, self.group = Path(root), group

    def find_class_names(self):
        return [folder.name for folder in folders(self.root / "train")]

    def find_in_channels(self):
        return 3

    def load_split(self, split):
        if not (self.root / split).is_dir():
            return None
        paths = images(self.root / split)
        targets = torch.tensor([self.class_names.index(path.parent.name) for path in paths])
        groups = [re.search(self.group, path.name)[1] for path in paths] if self.group else None
        return Files(targets, paths, 3, (6, 8), groups=groups)
