"""Average the weights over the steps of a run, which often gives a better model than the weights of the last step."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from kit.ground.ranges import ShareBelowOne


class EMA(WeightAveraging):
    """Validate, save and test an exponential moving average of the weights (Polyak and Juditsky 1992).

    The callback acts only in `fit`. In `validate` and `test`, the weights of the checkpoint are averaged already.

    Args:
        decay: at each step, the average becomes decay * average + (1 - decay) * weights. The average
            covers about 1 / (1 - decay) steps. After n steps, the decay is at most (1 + n) / (10 + n), so that a
            short run forgets its initial weights.
    """

    def __init__(self, decay: ShareBelowOne = 0.998) -> None:
        super().__init__(multi_avg_fn=partial(average, decay))
        self.decay = decay

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Create the average on this device. Without this line, Lightning would create it on the module's present
        # device, before the strategy moves the module.
        self._device = trainer.strategy.root_device
        super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":  # `trainer.validate` evaluates a checkpoint, whose weights are averaged already
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            super().on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)


def average(decay: float, averaged: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor) -> None:
    """Update averaged tensors in place with the current ones. `updates` is the number of updates so far."""
    n = int(updates)
    current = [new.to(old.dtype) for old, new in zip(averaged, current, strict=True)]  # `new` may be in half precision
    get_ema_multi_avg_fn(min(decay, (1 + n) / (10 + n)))(averaged, current, n)
