"""Keeping the best weights."""

from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from project.safeguards.stopping import require_logged, watched


class Checkpoint(ModelCheckpoint):
    """`RUN/checkpoints/best.ckpt`, after each validation.

    Args:
        monitor, mode: as of `EarlyStopping`.
    """

    def __init__(self, monitor: str | None = None, mode: Literal["min", "max"] | None = None) -> None:
        super().__init__(filename="best", enable_version_counter=False)
        self._asked = monitor, mode

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.monitor, self.mode = watched(pl_module, *self._asked)
        self.kth_value = torch.tensor(float("inf") if self.mode == "min" else -float("inf"))
        super().setup(trainer, pl_module, stage)

    def _save_topk_checkpoint(self, trainer: L.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if trainer.enable_validation:
            require_logged(str(self.monitor), monitor_candidates, "checkpoint.monitor")
            super()._save_topk_checkpoint(trainer, monitor_candidates)
        else:  # the latest is the best
            self._save_none_monitor_checkpoint(trainer, monitor_candidates)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """A run folder that was moved, or is named from elsewhere, is the same run."""
        old, new = state_dict["dirpath"], str(self.dirpath)
        paths = {key: value.replace(old, new, 1) for key, value in state_dict.items() if isinstance(value, str)}
        best = {path.replace(old, new, 1): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": best})
        self.current_score = state_dict["current_score"]  # which Lightning saves, but does not restore
