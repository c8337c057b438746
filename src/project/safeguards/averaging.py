"""Averaged weights, which often are better than the last ones."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging


class EMA(EMAWeightAveraging):
    """An exponential moving average of the weights is what is validated, kept and tested (Polyak and Juditsky 1992).

    Lightning's, which would test the weights as they were trained: reading a checkpoint after the training, it takes
    those from beside the averaged ones.

    Args:
        decay: the share of the average that stays at each step; it reaches back about 1 / (1 - decay) steps.
    """

    def __init__(self, decay: float = 0.998) -> None:
        super().__init__(decay=decay)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
