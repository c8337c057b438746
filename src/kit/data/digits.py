"""scikit-learn's handwritten digits, a data set that needs no download.

It is the test part of UCI's Optical Recognition of Handwritten Digits, by 13 writers.
"""

from importlib.metadata import distribution

import numpy as np
import torch
from torch import Tensor

from kit.data.datamodule import ImageDataModule
from kit.data.samples import Samples, Tensors
from kit.data.splitting import stratified_split


def digits() -> tuple[Tensor, Tensor]:
    """Return the images, uint8 [1797 1 8 8] from 0 to 255, and labels, Long[1797], from scikit-learn's file.

    scikit-learn is not imported, since the import takes two thirds of a second.
    """
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(file), delimiter=",", dtype=np.uint8)
    images = torch.from_numpy(table[:, :64]).reshape(-1, 1, 8, 8)
    return (images.float() * (255 / 16)).round().to(torch.uint8), torch.from_numpy(table[:, 64]).long()


def digits_of(split: str, seed: int) -> tuple[Tensor, Tensor]:
    """Return the images and labels of a split: train, val or test. `seed` decides what is in train and what in val."""
    images, labels = digits()
    rest, test = stratified_split(labels, 0.2, seed=0)
    train, val = stratified_split(labels[rest], 0.1, seed)
    subset = {"train": rest[train], "val": rest[val], "test": test}[split]
    return images[subset], labels[subset]


class DigitsDataModule(ImageDataModule):
    """1,797 handwritten digits of 8x8 pixels and their classes. The test split is a fifth of them.

    The test split does not depend on `seed`, so that runs can be compared. The validation split does.
    """

    def find_class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def find_in_channels(self) -> int:
        return 1

    def load_split(self, split: str) -> Samples | None:
        if split == "val":
            return None
        self.refuse_other_classes(self.find_class_names())
        images, labels = digits()
        return Tensors(labels, images).subset(stratified_split(labels, 0.2, seed=0)[split == "test"])
