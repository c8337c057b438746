"""No step with a NaN reaches the weights; a run that makes nothing else goes back, slower, or stops and says why."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from kit.ground.errors import UserError
from kit.safeguards.messages import tell
from kit.safeguards.nan.replay import Step, finite, remember
from kit.safeguards.nan.report import Reporter
from kit.safeguards.nan.rollback import Snapshots, cut_learning_rates
from kit.safeguards.nan.signs import SILENT_STEPS, Runaway, Silence
from kit.safeguards.nan.step import Buffers, Late, measure, scaler, skips_on_device, take_out

HELD = 3  # batches beside the one under way


class Diverged(UserError):
    """A guard stopped the run. One process says why, the others have nothing to add."""

    exit_code = 1


class NanGuard(L.Callback):
    """Skips steps whose loss or gradients are not finite; goes back when they do not cease, or when the loss runs away.

    Args:
        enabled: whether to watch over the run at all.
        patience: bad steps in a row after which the state is again what it was when all was well.
        lr_factor: by which the learning rate is then multiplied, for the rest of the run.
        max_rollbacks: how often in a run; after that it stops.
        snapshot_every: good steps between two copies of the state in the machine's memory, of which two are kept.
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
                "nan_guard: patience and snapshot_every are at least 1, max_rollbacks at least 0, "
                "lr_factor above 0 and at most 1"
            )
        self.enabled, self.patience, self.lr_factor = enabled, patience, lr_factor
        self.max_rollbacks, self.snapshot_every = max_rollbacks, snapshot_every
        self.skipped = self.streak = self.rollbacks = 0
        self.reporter, self.runaway, self.silence = Reporter(), Runaway(), Silence()
        self.snapshots = Snapshots()
        self._resumed_in_trouble = False
        self.gradient_norm: Tensor | None = None  # of the last step, before clipping
        self._under_way: Late | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if not self.enabled:
            others = [callback for callback in trainer.callbacks if callback is not self]  # type: ignore[attr-defined]
            trainer.callbacks = others  # type: ignore[attr-defined]
        elif stage == "fit" and not pl_module.automatic_optimization:
            raise UserError(
                f"nan_guard: {type(pl_module).__name__} steps its optimizers by hand, where a step cannot be taken out "
                "from outside: --nan_guard.enabled false"
            )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._late = skips_on_device(trainer)
        self._buffers = Buffers(pl_module)
        self._steps: list[Step] = []
        self._suspect: Step | None = None
        self._steps_before: list[Step] = []
        self._losses: list[Tensor] = []
        self._stepped = True
        if not self._resumed_in_trouble:
            self.snapshots.begin_with(None)
            self.snapshots.begin_anew(trainer, pl_module)
        self._resumed_in_trouble = False

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._stepped:
            self._buffers.keep()
            self._steps, self._suspect, self._stepped = [], None, False
        # Of batches whose gradients are added up the latest few are held, as they take memory, and the first bad one.
        self._steps = [*self._steps[-HELD:], remember(batch, batch_idx, pl_module.device)]

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        self._losses.append(loss.detach())
        if trainer.accumulate_grad_batches > 1 and not self._late and self._suspect is None and not finite(loss):
            self._suspect = self._steps[-1]

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        scale = scaler(trainer).get_scale() if scaler(trainer) else 1.0
        numbers = measure(self._losses, optimizer, scale, self.silence)
        self._losses, self._stepped = [], True
        if numbers is None:  # `training_step` returned none
            return
        self.gradient_norm = numbers[4]
        if not self._late:
            steps = [self._suspect] if self._suspect else self._steps
            self._judge(trainer, pl_module, optimizer, numbers.tolist(), steps)
            return
        bad = numbers[0] > 0
        optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
        self._buffers.put_back(where=bad)
        before, self._under_way = self._under_way, Late(numbers)
        steps, self._steps_before = self._steps_before, self._steps
        if before is not None:
            self._judge(trainer, pl_module, optimizer, before.read(), steps)

    def _judge(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        optimizer: Optimizer,
        numbers: list[float],
        steps: list[Step],
    ) -> None:
        bad, loss_bad, loss, silence, *_ = numbers
        if silence >= SILENT_STEPS:
            self.silence.tell(pl_module)
        if bad:
            # At a high scale fp16's scaler is only looking for the right one: no alarm, but no step either.
            alarm = scaler(trainer) is None or scaler(trainer).get_scale() < 1
            if alarm:
                self.streak, self.skipped = self.streak + 1, self.skipped + 1
            if alarm and self.streak == 1:
                self.reporter.report("loss" if loss_bad else "gradient", trainer, pl_module, steps, not self._late)
            if not self._late:
                take_out(trainer, optimizer, self._buffers)
            # Weights that are not finite make no good step any more. A learning rate that drives them there drives the
            # loss up first: if that was as usual, they were hurt from outside, unless it comes again.
            if alarm and not trainer.strategy.reduce_boolean_decision(finite(list(pl_module.parameters()))):
                blameless = self.runaway.usual_so_far and not self.rollbacks
                self._go_back("the weights are not finite", trainer, pl_module, optimizer, blameless)
            elif self.streak >= self.patience:
                self._go_back(f"{self.streak} bad steps in a row", trainer, pl_module, optimizer)
            return
        self.streak, self.snapshots.good = 0, self.snapshots.good + 1
        if self.runaway.seen(loss):
            self.reporter.report("runaway", trainer, pl_module, steps, not self._late)
            self._go_back("the loss has run away", trainer, pl_module, optimizer)
        elif self.snapshots.good >= self.snapshot_every and not self.runaway.far:
            self.snapshots.take(trainer, pl_module)

    def _go_back(
        self,
        why: str,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        optimizer: Optimizer,
        blameless: bool = False,
    ) -> None:
        """`blameless`: the learning rate is not to blame, and stays."""
        if self.rollbacks == self.max_rollbacks:
            file = self.reporter.file(trainer)
            message = (
                f"nan_guard: {why}, after {self.rollbacks} roll-backs; {self.reporter.last}; all of it is in {file}"
            )
            raise Diverged(message if trainer.is_global_zero else "")
        self.rollbacks += 1
        self.streak, self.runaway.far, self._under_way = 0, 0, None
        take_out(trainer, optimizer, self._buffers)
        step = self.snapshots.go_back(trainer, pl_module)
        cut = ""
        if not blameless:
            cut_learning_rates(trainer, self.lr_factor)
            cut = f", with the learning rate times {self.lr_factor:g}"
        tell(trainer, "nan_guard/roll_back", f"nan_guard: {why}: back to the state of step {step}{cut}")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._under_way is not None:
            self._judge(trainer, pl_module, trainer.optimizers[0], self._under_way.read(), self._steps_before)
            self._under_way = None
        if self.skipped:
            tell(trainer, "nan_guard/sum", f"nan_guard: {self.skipped} steps skipped, {self.rollbacks} roll-backs")

    @property
    def _in_trouble(self) -> bool:
        return bool(self.streak or self.runaway.far)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != "fit":
            return
        if self._in_trouble:
            self.snapshots.begin_with(self.snapshots.trusted)
        else:
            self.snapshots.begin_anew(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        return {
            "skipped": self.skipped,
            "streak": self.streak,
            "rollbacks": self.rollbacks,
            "reporter": self.reporter.state_dict(),
            "runaway": self.runaway.state_dict(),
            "silence": self.silence.state_dict(),
            "under_way": self._under_way.read() if self._under_way else None,
            "snapshot": self.snapshots.trusted if self._in_trouble else None,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped, self.streak, self.rollbacks = (state_dict[key] for key in ("skipped", "streak", "rollbacks"))
        self.reporter.load_state_dict(state_dict["reporter"])
        self.runaway.load_state_dict(state_dict["runaway"])
        self.silence.load_state_dict(state_dict["silence"])
        self._under_way = Late(torch.tensor(state_dict["under_way"])) if state_dict["under_way"] else None
        self._resumed_in_trouble = state_dict["snapshot"] is not None
        self.snapshots.begin_with(state_dict["snapshot"])
