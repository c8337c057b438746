"""Keeping the best weights and the last."""

from typing import Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from project.safeguards.stopping import watched


class Checkpoint(ModelCheckpoint):
    """`RUN/checkpoints/best.ckpt` and `last.ckpt`, after each validation.

    Args:
        monitor, mode: as of `EarlyStopping`.
    """

    def __init__(self, monitor: str | None = None, mode: Literal["min", "max"] | None = None) -> None:
        super().__init__(filename="best", save_last=True, enable_version_counter=False)
        self._asked = monitor, mode

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.monitor, self.mode = watched(pl_module, *self._asked)
        self.kth_value = torch.tensor(float("inf") if self.mode == "min" else -float("inf"))
        super().setup(trainer, pl_module, stage)
