"""Averaged weights, which often are better than the last ones."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA(WeightAveraging):
    """An exponential moving average of the weights is what is validated, kept and tested (Polyak and Juditsky 1992).

    Lightning's, which after the training would test the weights as they were trained, from beside the averaged ones in
    the checkpoint, and validate the last averaged ones instead of the best.

    Args:
        decay: the share of the average that stays at each step; it reaches back about 1 / (1 - decay) steps.
    """

    def __init__(self, decay: float = 0.998) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # all tensors at once: several times as fast

    def on_validation_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":  # after it the best checkpoint is evaluated, and is averaged already
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn == "fit":
            super().on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
