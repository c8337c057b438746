"""Stop a run that no longer improves."""

from typing import Literal

import lightning as L
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

from kit.ground._lightning import has_validated
from kit.ground.errors import NotMeasured
from kit.ground.ranges import NonNegativeFloat, PositiveInt
from kit.safeguards.messages import log_message
from kit.training.monitor import NEVER, require_logged, resolve_monitor


class EarlyStopping(callbacks.EarlyStopping):
    """Lightning's early stopping, but it takes the metric from the task and prints why it stopped the run.

    Args:
        monitor: the log key of the metric; by default the task's `monitor`.
        mode: whether a higher (`max`) or a lower (`min`) value is better; by default see `resolve_monitor`.
        patience: the number of validations without improvement after which the run stops; None to never stop.
        min_delta: a better value counts as an improvement if it differs from the best one by more than this.
    """

    def __init__(
        self,
        monitor: str | None = None,
        mode: Literal["min", "max"] | None = None,
        patience: PositiveInt | None = 10,
        min_delta: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__(monitor or "val/loss", min_delta, NEVER if patience is None else patience, mode=mode or "min")
        self._arguments = monitor, mode

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.monitor, self.mode = resolve_monitor(pl_module, *self._arguments)
        # Lightning's constructor has set the signs of `min_delta` and `best_score` for the mode that it was given.
        self.min_delta = abs(self.min_delta) * (1 if self.mode == "max" else -1)
        if self.wait_count == 0 and self.best_score.isinf():
            self.best_score = self.best_score.abs() * (-1 if self.mode == "max" else 1)
        super().setup(trainer, pl_module, stage)

    def _run_early_stopping_check(self, trainer: L.Trainer) -> None:
        if trainer.enable_validation and (self.monitor in trainer.callback_metrics or has_validated(trainer)):
            super()._run_early_stopping_check(trainer)

    def _validate_condition_metric(self, logs: dict[str, Tensor]) -> bool:
        require_logged(self.monitor, logs, "early_stopping.monitor")
        return True

    def require_finite(self) -> None:
        """Raise `NotMeasured` if the run was stopped because its metric was not finite."""
        if self.stopping_reason is EarlyStoppingReason.NON_FINITE_METRIC:
            raise NotMeasured(f"the run was stopped after epoch {self.stopped_epoch + 1}: {self.monitor} is not finite")

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        not_improved = f"has not improved on {self.best_score:.4f} for {self.wait_count} validations"
        reasons = {
            EarlyStoppingReason.NON_FINITE_METRIC: "is not finite",
            EarlyStoppingReason.PATIENCE_EXHAUSTED: f"{not_improved} (early_stopping.patience)",
        }
        if why := reasons.get(self.stopping_reason):
            message = f"stopped after epoch {self.stopped_epoch + 1}: {self.monitor} {why}"
            log_message(trainer, "early_stopping", message)
