"""Noise that a seed alone decides, whatever else is made."""

from collections.abc import Sequence

import torch
from torch import Tensor


def noise(seeds: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return normally distributed numbers, Float[B *shape], on the CPU: those of each seed."""
    made = [torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(made) if made else torch.empty(0, *shape)
