"""Stopping a run that no longer improves."""

from typing import Literal

import lightning as L
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

from kit.ground._lightning import has_validated
from kit.ground.errors import NotMeasured, UserError
from kit.safeguards.messages import log_message
from kit.training.monitor import NEVER, require_logged, watched


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's, which takes what to watch from the task, can be turned off by one flag, and says why it stopped.

    Args:
        monitor: a log key; by default the task's `monitor`, or `val/loss`.
        mode: whether the higher or the lower is the better; by default the task's.
        patience: validations without improvement before the run stops; None never stops it.
        min_delta: a smaller change is none.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        patience: int | None = 10,
        min_delta: float = 0.0,
    ) -> None:
        if patience is not None and patience < 1:
            raise UserError(f"early_stopping.patience is {patience}, but must be at least 1, or null to never stop")
        super().__init__(monitor or "val/loss", min_delta, NEVER if patience is None else patience, mode=mode or "min")
        self._asked = monitor, mode

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.monitor, self.mode = watched(pl_module, *self._asked)
        self.min_delta = abs(self.min_delta) * (1 if self.mode == "max" else -1)
        if self.wait_count == 0 and self.best_score.isinf():
            self.best_score = self.best_score.abs() * (-1 if self.mode == "max" else 1)
        super().setup(trainer, pl_module, stage)

    def _improvement_message(self, current) -> str:
        return ""

    def _run_early_stopping_check(self, trainer: L.Trainer) -> None:
        if trainer.enable_validation and (self.monitor in trainer.callback_metrics or has_validated(trainer)):
            super()._run_early_stopping_check(trainer)

    def _validate_condition_metric(self, logs: dict[str, Tensor]) -> bool:
        require_logged(self.monitor, logs, "early_stopping.monitor")
        return True

    def require_finite(self) -> None:
        """Check that the run was not stopped for a metric that is not finite.

        Raises:
            NotMeasured: it was.
        """
        if self.stopping_reason is EarlyStoppingReason.NON_FINITE_METRIC:
            raise NotMeasured(f"the run was stopped after epoch {self.stopped_epoch + 1}: {self.monitor} is not finite")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.stopping_reason is EarlyStoppingReason.NON_FINITE_METRIC:
            said = f"stopped after epoch {self.stopped_epoch + 1}: {self.monitor} is not finite"
            log_message(trainer, "early_stopping", said)
        elif self.stopping_reason is EarlyStoppingReason.PATIENCE_EXHAUSTED:
            said = (
                f"stopped after epoch {self.stopped_epoch + 1}: {self.monitor} has not improved on "
                f"{self.best_score:.4f} for {self.wait_count} validations (early_stopping.patience)"
            )
            log_message(trainer, "early_stopping", said)
