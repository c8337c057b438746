"""What data modules of tasks that make images have in common."""

from typing import Any

from kit.data import ImageDataModule
from kit.ground.errors import UserError


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
