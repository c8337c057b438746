"""A data set that needs no download, as samples."""

from typing import Any

from kit.data.datamodule import ImageDataModule
from kit.data.digits import digits
from kit.data.samples import Samples, Tensors
from kit.data.splitting import stratified


class Embedded(ImageDataModule):
    """scikit-learn's 1,797 handwritten digits of 8x8 pixels, with their classes: a fifth is held out for the test.

    The parts are the same whatever the run's seed, so that runs can be compared; only `val` follows `seed`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def find_class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def find_in_channels(self) -> int:
        return 1

    def given(self, split: str) -> Samples | None:
        if split == "val":
            return None
        images, labels = digits()
        train, test = stratified(labels, 0.2, seed=0)
        return Tensors(labels, images).subset(train if split == "train" else test)
