"""Take and restore snapshots of the training state, and lower the learning rates."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.lr_scheduler import LRScheduler

from kit.ground._torch import inner_schedules
from kit.ground.memory import HostMemory

MIN_GOOD_STEPS = 20  # a snapshot is trusted if this number of good steps followed it
GROUP_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")  # the keys of learning rates in a parameter group
SCHEDULE_RATES = ("base_lrs", "max_lrs", "min_lrs", "eta_min")  # the attributes of schedules that hold learning rates


class Snapshots:
    """The latest snapshot of the training state and the one before it.

    A resumed run lacks the snapshots from before its checkpoint. Therefore every run drops its snapshots when it writes
    a checkpoint, and takes one of the current state; see `NanGuard.on_save_checkpoint` for the exception. Otherwise a
    resumed run could restore another state than a run without interruption.
    """

    def __init__(self) -> None:
        self.reset(None)

    def reset(self, state: dict[str, Any] | None) -> None:
        """Keep only the snapshot `state`; None to keep no snapshot."""
        self._latest = state
        self._previous: dict[str, Any] | None = None
        self.good_steps = 0  # the number of good steps since the latest snapshot

    @property
    def trusted(self) -> dict[str, Any] | None:
        """The latest snapshot if it is the only one or enough good steps followed it, else the one before it.

        It is None if there is no snapshot.
        """
        return self._latest if self.good_steps >= MIN_GOOD_STEPS or self._previous is None else self._previous

    def take(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take a snapshot in place of the older of the two."""
        self._previous = self._latest
        self._latest = snapshot(trainer, pl_module)
        self.good_steps = 0

    def reset_to_current(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep only a snapshot of the current state."""
        self.reset(None)
        self.take(trainer, pl_module)

    def restore_trusted(self, trainer: L.Trainer, pl_module: L.LightningModule) -> int:
        """Restore the trusted snapshot, drop the other one, and return the step at which it was taken."""
        state = self.trusted
        assert state is not None
        restore(state, trainer, pl_module)
        self.reset(state)
        return state["step"]


def averaging_callbacks(trainer: L.Trainer) -> Iterator[WeightAveraging]:
    """Yield the callbacks that average the weights (EMA)."""
    return (callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging))  # type: ignore[attr-defined]


def snapshot(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
    """Copy weights, averaged weights, optimizer state and the loss scale of fp16, without waiting for the GPU."""
    state = {"step": trainer.global_step, "state_dict": pl_module.state_dict()}
    for callback in averaging_callbacks(trainer):
        callback.on_save_checkpoint(trainer, pl_module, state)
    state["optimizer"] = trainer.optimizers[0].state_dict().get("state", {})
    state["precision"] = trainer.precision_plugin.state_dict()
    return HostMemory().copy(state)


def restore(state: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Restore a snapshot. Learning rates and schedules stay as they are."""
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()  # the copies to the CPU may not be complete yet
    # If weights are averaged, `state_dict` has the averages.
    pl_module.load_state_dict(state.get("current_model_state", state["state_dict"]))
    for callback in averaging_callbacks(trainer):
        callback.on_load_checkpoint(trainer, pl_module, state)
    optimizer = trainer.optimizers[0]
    # Copy the tensors, since the optimizer's later steps change them in place.
    optimizer.load_state_dict({**optimizer.state_dict(), "state": deepcopy(state["optimizer"])})
    trainer.precision_plugin.load_state_dict(state["precision"])


def cut_learning_rates(trainer: L.Trainer, factor: float) -> None:
    """Multiply the optimizer's learning rates by a factor, and also the learning rates that schedules store."""
    for group in trainer.optimizers[0].param_groups:
        group.update({key: group[key] * factor for key in GROUP_RATES if group.get(key) is not None})
    for config in trainer.lr_scheduler_configs:
        _cut_schedule(config.scheduler, factor)


def _cut_schedule(schedule: LRScheduler, factor: float) -> None:
    for name in SCHEDULE_RATES:
        if name in vars(schedule):
            rates = vars(schedule)[name]
            scaled = [rate * factor for rate in rates] if isinstance(rates, list) else rates * factor
            setattr(schedule, name, scaled)
    for inner in inner_schedules(schedule):
        _cut_schedule(inner, factor)
