"""The callback that skips bad steps, restores an earlier state after several of them, or stops the run."""

from typing import Any

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from kit.ground._lightning import loss_scaler
from kit.ground.errors import RunFailed, UserError
from kit.ground.ranges import NonNegativeInt, PositiveInt, Share
from kit.safeguards.messages import log_message
from kit.safeguards.nan.report import Reporter, is_finite
from kit.safeguards.nan.step import DivergenceDetector, Snapshots, measure_step, scale_learning_rates, skip_step


class NanGuard(L.Callback):
    """Skip bad optimizer steps, whose loss or gradients are not finite, and restore an earlier state if needed.

    An earlier state is restored after `patience` bad steps in a row, if the loss diverges, or if weights are not
    finite. Each restoration also lowers the learning rate, except the first of a run if weights were not finite.

    Args:
        enabled: whether to use this guard.
        patience: the number of bad steps in a row after which an earlier state is restored.
        lr_factor: the factor by which the learning rate is multiplied to lower it, for the rest of the run.
        max_rollbacks: the number of times that a state may be restored. If this is needed once more, the run stops.
        snapshot_every: the number of good steps between two snapshots of the training state. The last two are kept in
            the CPU's memory.

    Attributes:
        skipped: the number of bad steps in the run, without those that fp16 needs to find its loss scale.
        streak: the number of bad steps in a row, up to the latest step.
        rollbacks: the number of times that a state was restored.
        gradient_norm: the norm of the latest step's gradient before clipping, Float[]; None before the first step.
    """

    def __init__(
        self,
        enabled: bool = True,
        patience: PositiveInt = 5,
        lr_factor: Share = 0.5,
        max_rollbacks: NonNegativeInt = 3,
        snapshot_every: PositiveInt = 100,
    ) -> None:
        self.enabled, self.patience, self.lr_factor = enabled, patience, lr_factor
        self.max_rollbacks, self.snapshot_every = max_rollbacks, snapshot_every
        self.skipped = self.streak = self.rollbacks = 0
        self.reporter, self.detector, self.snapshots = Reporter(), DivergenceDetector(), Snapshots()
        self.gradient_norm: Tensor | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not self.enabled:
            others = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
            trainer.callbacks = others  # type: ignore[attr-defined]
        elif stage == "fit" and not pl_module.automatic_optimization:
            name = type(pl_module).__name__
            raise UserError(f"{name}: nan_guard cannot guard manual optimization; add --nan_guard.enabled false")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._losses: list[Tensor] = []  # the losses of the current step's batches
        self._buffers: dict[str, Tensor] = {}  # copies of the module's buffers from before the current step
        self._batch: tuple[Any, int] = (None, 0)  # the batch to report if the step is bad, and its index in the epoch
        self.snapshots.reset_to_current(trainer, pl_module)

    def on_train_batch_start(self, _: Any, pl_module: L.LightningModule, batch: Any, batch_idx: int) -> None:
        if not self._losses:
            self._buffers = {name: buffer.clone() for name, buffer in pl_module.named_buffers()}
        # A step has several batches if gradients are accumulated. Keep the first bad one or, if none is bad, the last.
        if is_finite(sum(self._losses)):
            self._batch = (batch, batch_idx)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        """Skip the coming optimizer step or restore an earlier state if necessary."""
        measurements = measure_step(trainer, self._losses)
        self._losses = []
        if measurements is None:
            return
        self.gradient_norm = measurements[3]
        # The share of the processes with a bad step, and the share of those with a loss that is not finite.
        is_bad, loss_is_bad, loss, _ = measurements.tolist()
        if not is_bad:
            self.streak, self.snapshots.good_steps = 0, self.snapshots.good_steps + 1
            if self.detector.update(loss):
                self.reporter.report("the loss has stayed far above its median", trainer, pl_module, *self._batch)
                self._roll_back("the loss has diverged", trainer, pl_module)
            elif self.snapshots.good_steps >= self.snapshot_every and not self.detector.high_count:
                self.snapshots.take(trainer, pl_module)
            return
        # The scaler of fp16 finds its loss scale by overflows: a bad step is normal while the scale is 1 or more.
        is_alarm = loss_scaler(trainer) is None or loss_scaler(trainer).get_scale() < 1
        if is_alarm:
            self.streak, self.skipped = self.streak + 1, self.skipped + 1
            if self.streak == 1:
                problem = "the loss is not finite" if loss_is_bad else "a gradient is not finite"
                self.reporter.report(problem, trainer, pl_module, *self._batch)
        skip_step(trainer, pl_module, self._buffers)
        if not is_alarm:
            return
        # All steps that were not skipped had finite gradients. Such steps rarely make weights infinite, even
        # with a high learning rate. So do not lower the learning rate at the first roll-back.
        if not trainer.strategy.reduce_boolean_decision(is_finite(list(pl_module.parameters()))):
            self._roll_back("the weights are not finite", trainer, pl_module, lower_lr=self.rollbacks > 0)
        elif self.streak >= self.patience:
            self._roll_back(f"{self.streak} bad steps in a row", trainer, pl_module)

    def _roll_back(self, why: str, trainer: L.Trainer, pl_module: L.LightningModule, lower_lr: bool = True) -> None:
        """Restore an earlier state, and print why.

        Raises:
            RunFailed: a state was restored `max_rollbacks` times before.
        """
        if self.rollbacks == self.max_rollbacks:
            message = f"nan_guard: {why}, after {self.rollbacks} roll-backs; {self.reporter.last}"
            raise RunFailed(message if trainer.is_global_zero else "")  # only one process prints the message
        self.rollbacks += 1
        self.streak, self.detector.high_count = 0, 0
        skip_step(trainer, pl_module, self._buffers)
        message = f"nan_guard: {why}: back to the state of step {self.snapshots.restore_trusted(trainer, pl_module)}"
        if lower_lr:
            scale_learning_rates(trainer, self.lr_factor)
            message += f", with the learning rate times {self.lr_factor:g}"
        log_message(trainer, "nan_guard/roll_back", message)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.skipped:
            message = f"nan_guard: {self.skipped} steps skipped, {self.rollbacks} roll-backs"
            log_message(trainer, "nan_guard/sum", message)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # A resumed run has no snapshots from before its checkpoint. This run drops its snapshots too, so that both runs
        # go on in the same way. If the loss is high, it may be diverging, so the run still needs its snapshots.
        if trainer.state.fn == "fit" and not self.detector.high_count:
            self.snapshots.reset_to_current(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        counts = {"skipped": self.skipped, "streak": self.streak, "rollbacks": self.rollbacks}
        losses = {"losses": list(self.detector.losses), "high_count": self.detector.high_count}
        return {**counts, "reports": self.reporter.count, **losses}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.streak, self.rollbacks = (state_dict[key] for key in ("skipped", "streak", "rollbacks"))
        self.reporter.count = state_dict["reports"]
        self.detector.losses.extend(state_dict["losses"])
        self.detector.high_count = state_dict["high_count"]
