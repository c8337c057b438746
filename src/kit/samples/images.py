"""Images with values from -1 to 1: the base class of their data modules, noise for given seeds, and conversions."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kit.data import ImageDataModule
from kit.ground.errors import UserError


class SignedImages(ImageDataModule):
    """The base class of data modules whose images are normalised to values from -1 to 1.

    `setup` loads the training images even for a test, because the report compares generated images with them.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if any(value != 0.5 for value in [*(self.mean or []), *(self.std or [])]):
            raise UserError("this task needs images from -1 to 1: leave out data.mean and data.std")

    def setup(self, stage: str) -> None:
        if self.mean is None:
            self.mean = self.std = [0.5] * self.in_channels
        super().setup("fit")


def noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise for B seeds, Float[B *shape], on the CPU. Each entry depends only on its seed."""
    parts = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(parts) if parts else torch.empty(0, *shape)


def pixels(images: Tensor) -> Tensor:
    """Convert values from -1 to 1 to uint8, 0 to 255. Values outside of this range are clipped."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def floats(images: Tensor) -> Tensor:
    """Convert uint8, 0 to 255, to values from -1 to 1."""
    return images.float() / 127.5 - 1
