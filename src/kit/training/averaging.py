"""Averaged weights, which often give a better model than the last weights."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kit.ground.errors import UserError


class EMA(WeightAveraging):
    """Validate, store and test an exponential moving average of the weights (Polyak and Juditsky 1992).

    After training, Lightning's callback would test the last weights instead of the averaged ones in the checkpoint, and
    validate the last average instead of the best. This one does neither.

    Args:
        decay: the share of the average that is kept at each step, so that the average covers about 1 / (1 - decay)
            steps. After n steps the decay is at most (1 + n) / (10 + n), since otherwise the first weights of a short
            run would outweigh what it has learned.
    """

    def __init__(self, decay: float = 0.998) -> None:
        if not 0 <= decay < 1:
            raise UserError(f"EMA: decay is {decay}, but must be 0 or more and below 1")
        super().__init__(multi_avg_fn=partial(average, decay))
        self.decay = decay

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":  # later the best checkpoint is evaluated, which holds averaged weights already
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            super().on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def average(decay: float, averaged: Sequence[Tensor], current: Sequence[Tensor], steps: Tensor) -> None:
    """Update an average in place after a number of steps: all tensors at once, which is several times as fast."""
    number = int(steps)
    get_ema_multi_avg_fn(min(decay, (1 + number) / (10 + number)))(averaged, current, number)
