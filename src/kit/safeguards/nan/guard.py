"""The callback: skip bad steps, go back to a good state if they go on, and stop with a reason if that does not help."""

from typing import Any

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from kit.ground.errors import UserError
from kit.safeguards.messages import log_message
from kit.safeguards.nan.report import Reporter, is_finite
from kit.safeguards.nan.rollback import Snapshots, cut_learning_rates
from kit.safeguards.nan.step import DivergenceDetector, SavedBuffers, measure, save_buffers, scaler, skip_step


class Diverged(UserError):
    """A guard stopped the run. Only the first process has a message."""

    exit_code = 1


class NanGuard(L.Callback):
    """Skip steps whose loss or gradients are not finite. If they go on, or the loss diverges, restore a good state.

    Args:
        enabled: whether to use this guard.
        patience: the number of bad steps in a row after which the last good state is restored.
        lr_factor: the learning rate is then multiplied by this, for the rest of the run.
        max_rollbacks: how often a state may be restored; after that the run stops.
        snapshot_every: the number of good steps between two copies of the state in the host's memory. Two are kept.

    Attributes:
        gradient_norm: the norm of the last step's gradient before clipping, Float[]; for the dashboard.
    """

    def __init__(
        self,
        enabled: bool = True,
        patience: int = 5,
        lr_factor: float = 0.5,
        max_rollbacks: int = 3,
        snapshot_every: int = 100,
    ) -> None:
        if patience < 1 or snapshot_every < 1 or max_rollbacks < 0 or not 0 < lr_factor <= 1:
            raise UserError(
                "nan_guard: patience and snapshot_every >= 1, max_rollbacks >= 0, 0 < lr_factor <= 1 must hold"
            )
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
            raise UserError(f"nan_guard cannot skip steps of manual optimization ({name}): --nan_guard.enabled false")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._losses: list[Tensor] = []  # of the batches of the current step
        self._buffers: SavedBuffers = []
        self._batch: tuple[Any, int] = (None, 0)  # a batch of the current step, and its index
        self._batch_is_bad = False
        self.snapshots.begin_with(None)
        self.snapshots.begin_anew(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self._losses:
            self._buffers = save_buffers(pl_module)
            self._batch_is_bad = False
        # With accumulated gradients, keep one batch only, to save memory: the first bad one, or else the last.
        if not self._batch_is_bad:
            self._batch = (batch, batch_idx)

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())
        if trainer.accumulate_grad_batches > 1:  # otherwise the host need not wait for the loss here
            self._batch_is_bad = self._batch_is_bad or not is_finite(loss)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        numbers = measure(trainer, self._losses)
        self._losses = []
        if numbers is None:
            return
        self.gradient_norm = numbers[3]
        self._judge(trainer, pl_module, numbers.tolist())

    def _judge(self, trainer: L.Trainer, pl_module: L.LightningModule, numbers: list[float]) -> None:
        """Decide what follows from the numbers of a step."""
        is_bad, loss_is_bad, loss, _ = numbers
        if not is_bad:
            self.streak, self.snapshots.good = 0, self.snapshots.good + 1
            if self.detector.update(loss):
                self.reporter.report("the loss has stayed far above its median", trainer, pl_module, *self._batch)
                self._go_back("the loss has diverged", trainer, pl_module)
            elif self.snapshots.good >= self.snapshot_every and not self.detector.high_count:
                self.snapshots.take(trainer, pl_module)
            return
        # At a scale of 1 or more, fp16's scaler is only searching for its scale: skip the step without an alarm.
        is_alarm = scaler(trainer) is None or scaler(trainer).get_scale() < 1
        if is_alarm:
            self.streak, self.skipped = self.streak + 1, self.skipped + 1
            if self.streak == 1:
                problem = "the loss is not finite" if loss_is_bad else "a gradient is not finite"
                self.reporter.report(problem, trainer, pl_module, *self._batch)
        skip_step(trainer, self._buffers)
        if not is_alarm:
            return
        # Steps with finite gradients rarely make weights infinite: blame the learning rate only if it happens again.
        if not trainer.strategy.reduce_boolean_decision(is_finite(list(pl_module.parameters()))):
            self._go_back("the weights are not finite", trainer, pl_module, cut=self.rollbacks > 0)
        elif self.streak >= self.patience:
            self._go_back(f"{self.streak} bad steps in a row", trainer, pl_module)

    def _go_back(self, why: str, trainer: L.Trainer, pl_module: L.LightningModule, cut: bool = True) -> None:
        """Restore the last good state.

        Args:
            cut: whether to lower the learning rate, too.

        Raises:
            Diverged: the state was restored too often.
        """
        if self.rollbacks == self.max_rollbacks:
            message = f"nan_guard: {why}, after {self.rollbacks} roll-backs; {self.reporter.last}"
            raise Diverged(message if trainer.is_global_zero else "")
        self.rollbacks += 1
        self.streak, self.detector.high_count = 0, 0
        skip_step(trainer, self._buffers)
        message = f"nan_guard: {why}: back to the state of step {self.snapshots.go_back(trainer, pl_module)}"
        if cut:
            cut_learning_rates(trainer, self.lr_factor)
            message += f", with the learning rate times {self.lr_factor:g}"
        log_message(trainer, "nan_guard/roll_back", message)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.skipped:
            message = f"nan_guard: {self.skipped} steps skipped, {self.rollbacks} roll-backs"
            log_message(trainer, "nan_guard/sum", message)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        # A resumed run can only go back to the state in its checkpoint, so this run must do the same. If the loss is
        # high, it keeps its earlier state instead.
        if trainer.state.fn == "fit" and not self.detector.high_count:
            self.snapshots.begin_anew(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "streak": self.streak,
            "rollbacks": self.rollbacks,
            "reports": self.reporter.count,
            "losses": list(self.detector.losses),
            "high_count": self.detector.high_count,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.streak, self.rollbacks = (state_dict[key] for key in ("skipped", "streak", "rollbacks"))
        self.reporter.count = state_dict["reports"]
        self.detector.losses.extend(state_dict["losses"])
        self.detector.high_count = state_dict["high_count"]
