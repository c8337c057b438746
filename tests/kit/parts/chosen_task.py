"""A task whose net, optimizer and schedule are chosen on the command line."""

from collections.abc import Callable

import torch
from lightning.pytorch.cli import OptimizerCallable
from tiny_task import Judged, Rightness, Shades
from torch import nn
from torch.optim import Optimizer

from kit.training.schedule import Interval, Schedule, WarmupCosine, optimizer_and_schedule


class Short(WarmupCosine):
    """A schedule with one of the arguments of `WarmupCosine`, and another default."""

    def __init__(self, optimizer: Optimizer, total_steps: int, warmup: float = 0.125) -> None:
        super().__init__(optimizer, total_steps, warmup)


class Layer(nn.Linear):
    """scale: what the weights are multiplied with at the start. file: not used."""

    def __init__(self, num_classes: int, in_channels: int = 3, scale: float = 1.0, file: str | None = None) -> None:
        super().__init__(in_channels * 6 * 8, num_classes)
        with torch.no_grad():
            self.weight.mul_(scale)


class OtherLayer(Layer):
    def __init__(self, num_classes: int, in_channels: int = 3, scale: float = 0.0) -> None:
        super().__init__(num_classes, in_channels, scale)


class OtherShades(Shades):
    pass


class Chosen(Judged):
    """`Judged`, whose loss on the validation images is logged, too."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        net: Callable[..., nn.Module] = Layer,
        optimizer: OptimizerCallable = torch.optim.AdamW,
        schedule: Schedule | None = WarmupCosine,
        schedule_interval: Interval | None = None,
    ):
        super().__init__(num_classes, in_channels)
        self.net = net(num_classes=num_classes, in_channels=in_channels)
        self.optimizer, self.schedule, self.schedule_interval = optimizer, schedule, schedule_interval

    def configure_optimizers(self):
        return optimizer_and_schedule(self, self.optimizer, self.schedule, self.schedule_interval)


class NotFinite(Rightness):
    def score(self):
        return float("nan")


class Unmeasured(Chosen):
    """Its test images have no finite loss, and its validation images nothing to measure."""

    def on_test_epoch_end(self):
        super().on_test_epoch_end()
        self.log("test/loss", float("nan"))

    def evaluation(self, split):
        return NotFinite(self.class_names)


class Endless(Chosen):
    """What it is judged by is not finite."""

    monitor, mode = "val/loss", "min"

    def on_validation_epoch_end(self):
        self.log("val/loss", float("inf"))
