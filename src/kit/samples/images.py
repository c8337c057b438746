"""Images with values from -1 to 1: their data module, noise by seed, and the conversion to pixels and back."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from kit.data import ImageDataModule
from kit.ground.errors import UserError


class Centred(ImageDataModule):
    """Images whose pixels become numbers from -1 to 1.

    For a test the training images are set up, too, because the report compares samples with them.
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
    """Return normally distributed numbers for each seed, Float[B *shape], on the CPU."""
    parts = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(parts) if parts else torch.empty(0, *shape)


def pixels(images: Tensor) -> Tensor:
    """Convert numbers from -1 to 1 to uint8. Numbers outside of this range are clipped."""
    return ((images + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def floats(images: Tensor) -> Tensor:
    """Convert uint8 to numbers from -1 to 1."""
    return images.float() / 127.5 - 1
