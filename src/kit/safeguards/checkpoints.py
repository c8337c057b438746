"""Keep the best weights."""

from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from kit.ground._lightning import has_validated
from kit.training.monitor import require_logged, watched


class Checkpoint(ModelCheckpoint):
    """Write `RUN/checkpoints/best.ckpt` after each validation that is better than those before.

    Args:
        monitor, mode: as in `EarlyStopping`.
    """

    def __init__(self, monitor: str | None = None, mode: Literal["min", "max"] | None = None) -> None:
        super().__init__(filename="best", enable_version_counter=False)
        self._arguments = monitor, mode

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.monitor, self.mode = watched(pl_module, *self._arguments)
        self.kth_value = torch.tensor(float("inf") if self.mode == "min" else -float("inf"))
        super().setup(trainer, pl_module, stage)

    def _save_topk_checkpoint(self, trainer: L.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if not trainer.enable_validation:  # keep the latest weights
            self._save_none_monitor_checkpoint(trainer, monitor_candidates)
        elif self.monitor in monitor_candidates or has_validated(trainer):
            require_logged(str(self.monitor), monitor_candidates, "checkpoint.monitor")
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last weights if the run ended before its first validation."""
        if not self.best_model_path and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))
            trainer.strategy.checkpoint_io.teardown()
            trainer.strategy.barrier()  # as in ExactResume, for the same reader

    @staticmethod
    def of(trainer: L.Trainer) -> "Checkpoint | None":
        """Return the trainer's callback of this class; the user may have added other checkpoint callbacks."""
        return next((callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoint)), None)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores only, not the paths.

        The run folder may have been moved. And a stranger's checkpoint could name any path, whose file would be deleted
        when a better checkpoint is saved.
        """
        best = Path(str(self.dirpath), "best.ckpt")
        if state_dict["best_model_path"] or best.is_file():  # it may have been written after the last checkpoint
            self.best_model_path = self.kth_best_model_path = str(best)
        score = state_dict["best_model_score"]
        if isinstance(score, Tensor) and score.numel() == 1:  # weights that were saved without a validation have none
            self.best_model_score = self.kth_value = score
            self.best_k_models = {self.best_model_path: score}
        self.current_score = state_dict["current_score"]


def judged_by(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, str]:
    """Return the log keys that a run is judged by, and their modes, `min` or `max`.

    These are the task's key and, last, the key that chooses the best checkpoint.
    """
    modes: dict[str, str] = dict([watched(pl_module, None, None)])
    callback = Checkpoint.of(trainer)
    if callback and callback.monitor:
        modes[callback.monitor] = callback.mode
    return modes
