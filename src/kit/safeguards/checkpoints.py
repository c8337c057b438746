"""Save the best weights, and stop a run that no longer improves. A metric decides both."""

import math
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch import callbacks
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from torch import Tensor

from kit.ground._lightning import has_validated_a_batch
from kit.ground.errors import NotMeasured
from kit.ground.ranges import NonNegativeFloat, PositiveInt
from kit.safeguards.messages import log_message
from kit.safeguards.overfitting.verdict import margin_of_error
from kit.task import as_task
from kit.training.monitor import NEVER, require_logged, resolve_monitor

# After `FineTuning` has fitted the head, a later checkpoint's score may be lower by at most this number. With few
# validation images, the standard error can be 0.1: such a tolerance would hide a real decline.
HEAD_TOLERANCE = 0.02


class Checkpoint(ModelCheckpoint):
    """Write `RUN/checkpoints/best.ckpt` after each validation that is at least as good as all earlier ones.

    A later checkpoint replaces an equally good one, since it has learned more. Ties are frequent with few validation
    images.

    If `FineTuning` fits the head, a checkpoint is written before the first step. A later one replaces it even if the
    metric is slightly worse: by at most the metric's standard error, and at most `HEAD_TOLERANCE`.

    Args:
        monitor: the log key of the metric; by default the task's `monitor`.
        mode: whether a higher (`max`) or a lower (`min`) value is better; by default see `resolve_monitor`.
    """

    def __init__(self, monitor: str | None = None, mode: Literal["min", "max"] | None = None) -> None:
        super().__init__(filename="best", enable_version_counter=False)
        self._arguments = monitor, mode
        # The optimizer steps that led to `best.ckpt` (0: only the head is fitted), or None if no validation chose it.
        self.best_step: int | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.monitor, self.mode = resolve_monitor(pl_module, *self._arguments)
        self.kth_value = torch.tensor(float("inf") if self.mode == "min" else -float("inf"))
        super().setup(trainer, pl_module, stage)

    def _save_topk_checkpoint(self, trainer: L.Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        if not trainer.enable_validation:  # keep the latest weights
            self._save_none_monitor_checkpoint(trainer, monitor_candidates)
        elif self.monitor in monitor_candidates or has_validated_a_batch(trainer):
            require_logged(str(self.monitor), monitor_candidates, "checkpoint.monitor")
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make a run end with a validation if the run is shorter than the interval, or the interval is given in steps.

        An interval in steps is shortened for this: a run of 2,400 steps is validated every 480 steps instead of 500.
        """
        super().on_train_start(trainer, pl_module)
        interval, max_epochs = trainer.check_val_every_n_epoch, trainer.max_epochs or -1
        if interval is not None:
            trainer.check_val_every_n_epoch = max_epochs if 0 < max_epochs < interval else interval
            return
        batches, steps = trainer.num_training_batches, trainer.estimated_stepping_batches
        if trainer.val_check_batch is not None and math.isfinite(batches) and math.isfinite(steps):
            step_batches = trainer.accumulate_grad_batches
            # The last step of an epoch may have fewer batches.
            epochs, rest = divmod(int(steps), math.ceil(batches / step_batches))
            total = epochs * int(batches) + rest * step_batches
            trainer.val_check_batch = total // max(1, math.ceil(total / trainer.val_check_batch))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        is_trial = trainer.sanity_checking or trainer.fast_dev_run  # type: ignore[attr-defined]
        if trainer.state.fn == "fit" and not trainer.global_step and not is_trial:
            # Lightning saves nothing before the first step, but `FineTuning` has fitted the head.
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        is_better = super().check_monitor_top_k(trainer, current)
        if current is not None and self.best_k_models:
            gain = float(current - self.kth_value) * (1 if self.mode == "max" else -1)
            tolerance = head_tolerance(trainer.lightning_module, str(self.monitor)) if self.best_step == 0 else 0.0
            is_better = is_better or gain >= -tolerance
        if is_better:
            self.best_step = trainer.global_step
        return is_better

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best_step": self.best_step}

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last weights if there was no validation. Print a line if the fitted head remained the best."""
        if self.best_step == 0:
            message = "best.ckpt has only its head fitted: no validation after the first step was better"
            log_message(trainer, "checkpoint", message)
        if not self.best_model_path and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            self._save_none_monitor_checkpoint(trainer, self._monitor_candidates(trainer))
            trainer.strategy.checkpoint_io.teardown()
            trainer.strategy.barrier()  # all processes read the file next

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the scores only, not the paths.

        The run folder may have been moved. Also, a checkpoint from a stranger could name any path, and Lightning
        deletes the file at this path when it saves a better checkpoint.
        """
        best = Path(str(self.dirpath), "best.ckpt")
        if state_dict["best_model_path"] or best.is_file():  # the file may be newer than this state
            self.best_model_path = self.kth_best_model_path = str(best)
        score = state_dict["best_model_score"]
        if isinstance(score, Tensor) and score.numel() == 1:  # without a validation there is no score
            self.best_model_score = self.kth_value = score
            self.best_k_models = {self.best_model_path: score}
        self.current_score = state_dict["current_score"]
        self.best_step = state_dict.get("best_step")


def head_tolerance(pl_module: L.LightningModule, monitor: str) -> float:
    """Return by how much a checkpoint may be worse than the fitted head, estimated from the latest validation.

    Return 0 if the monitored metric is not the score of the evaluation.
    """
    measured = as_task(pl_module).latest_evaluation
    if measured is None or measured.score_name is None or monitor != f"val/{measured.score_name}":
        return 0.0
    standard_error = margin_of_error(measured.score_terms()) / 1.96
    return min(standard_error, HEAD_TOLERANCE)


def monitored_metrics(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, str]:
    """Return the mode, `min` or `max`, of each log key that a run monitors.

    The last key chooses the best checkpoint. If it is not the task's `monitor`, the task's `monitor` comes first.
    """
    checkpoints = (callback for callback in trainer.checkpoint_callbacks if isinstance(callback, Checkpoint))
    return dict([resolve_monitor(pl_module, None, None), *((c.monitor, c.mode) for c in checkpoints if c.monitor)])


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

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counts, but keep the constructor's patience.

        If this run was stopped, restore nothing: the test after training loads the best checkpoint, which was saved
        before the stop.
        """
        if self.stopping_reason is EarlyStoppingReason.NOT_STOPPED:
            super().load_state_dict({**state_dict, "patience": self.patience})

    def _run_early_stopping_check(self, trainer: L.Trainer) -> None:
        if not trainer.should_stop:  # a resumed run continues after an earlier stop
            self.stopping_reason = EarlyStoppingReason.NOT_STOPPED
        if trainer.enable_validation and (self.monitor in trainer.callback_metrics or has_validated_a_batch(trainer)):
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
        why = {
            EarlyStoppingReason.NON_FINITE_METRIC: "is not finite",
            EarlyStoppingReason.PATIENCE_EXHAUSTED: f"{not_improved} (early_stopping.patience)",
        }.get(self.stopping_reason)
        if why:
            message = f"stopped after epoch {self.stopped_epoch + 1}: {self.monitor} {why}"
            log_message(trainer, "early_stopping", message)
