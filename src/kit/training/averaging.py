"""Averaged weights, which often are better than the last ones."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kit.ground.errors import UserError


class EMA(WeightAveraging):
    """An exponential moving average of the weights is what is validated, kept and tested (Polyak and Juditsky 1992).

    Lightning's, which after the training would test the weights as they were trained, from beside the averaged ones in
    the checkpoint, and validate the last averaged ones instead of the best.

    Args:
        decay: the share of the average that stays at each step; it reaches back about 1 / (1 - decay) steps. It is at
            most (1 + n) / (10 + n) after n steps: else what a short run began with would outweigh what it learned.
    """

    def __init__(self, decay: float = 0.998) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"EMA: decay is {decay}, but must be 0 or more and below 1")
        super().__init__(multi_avg_fn=partial(average, decay))
        self.decay = decay

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":  # after it the best checkpoint is evaluated, and is averaged already
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            super().on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def average(decay: float, averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor) -> None:
    """All tensors at once, in place, after so many steps: several times as fast as one by one."""
    number = int(steps)
    get_ema_multi_avg_fn(min(decay, (1 + number) / (10 + number)))(averaged, current, number)
