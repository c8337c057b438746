"""What a checkpoint names that was made with somebody's own package. The parameters are of every kind there is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.profilers import Profiler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchvision.transforms.v2 import Transform


@dataclass
class Sizes:
    width: int = 3
    measure: Callable[[int], int] | None = None


def half(value: float) -> float:
    return value / 2


class Net(nn.Sequential):
    def __init__(self, num_classes: int, in_channels: int, norm: type[nn.Module] = nn.BatchNorm2d, activation=None):
        super().__init__(nn.Flatten(), nn.Linear(in_channels * 6 * 8, num_classes))


class Task(L.LightningModule):
    def __init__(
        self,
        net: Callable[..., nn.Module] = Net,
        optimizer: OptimizerCallable = torch.optim.SGD,
        schedule: Callable[[Optimizer, int], LRScheduler] | None = None,
        losses: list[nn.Module] | dict[str, nn.Module] | None = None,
        sizes: Sizes | None = None,
        scale: Callable[[float], float] | str | None = None,
        dtype: torch.dtype | None = None,
        anything: Any = None,
        untyped=None,
        title: str = "x",
        profiler: Profiler | str | None = None,
        **kwargs,
    ):
        super().__init__()


class Data(L.LightningDataModule):
    def __init__(self, augment: Sequence[Transform] = (), root: str = "."):
        super().__init__()
