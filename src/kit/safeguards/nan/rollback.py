"""Take and restore snapshots of the training state, and lower the learning rates."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch.optim.lr_scheduler import LRScheduler

from kit.ground._torch import inner_schedules
from kit.ground.host_memory import HostMemory

MIN_GOOD_STEPS = 20  # the number of good steps after which a snapshot is trusted
RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")  # keys of a parameter group in which schedules store rates
SCHEDULE_RATES = ("base_lrs", "max_lrs", "min_lrs", "eta_min")  # attributes in which schedules store rates


class Snapshots:
    """The latest snapshot and the one before it.

    A resumed run lacks the snapshots from before its checkpoint. Therefore every run drops its snapshots when it writes
    a checkpoint, and takes one of the current state. Without this, a resumed run would not be exact.
    """

    def __init__(self) -> None:
        self.reset(None)

    def reset(self, state: dict[str, Any] | None) -> None:
        """Keep only the given snapshot, or none."""
        self._latest = state
        self._previous: dict[str, Any] | None = None
        self.good_steps = 0  # the number of good steps since the latest snapshot
        self._memories = [HostMemory(), HostMemory()]  # new ones, since `state` may be in one of the old ones

    @property
    def trusted(self) -> dict[str, Any] | None:
        """The latest snapshot after enough good steps, else the one before it."""
        return self._latest if self.good_steps >= MIN_GOOD_STEPS or self._previous is None else self._previous

    def take(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take a snapshot. It overwrites the older of the two."""
        self._memories.reverse()
        self._latest, self._previous = snapshot(trainer, pl_module, self._memories[0]), self._latest
        self.good_steps = 0

    def reset_to_current(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep only a snapshot of the current state."""
        if self._latest is None or self._latest["step"] != trainer.global_step or self._previous is not None:
            self.take(trainer, pl_module)
            self._previous = None

    def go_back(self, trainer: L.Trainer, pl_module: L.LightningModule) -> int:
        """Restore the trusted snapshot, and return its step."""
        state = self.trusted
        assert state is not None
        restore(state, trainer, pl_module)
        self.reset(state)
        return state["step"]


def averaging_callbacks(trainer: L.Trainer) -> Iterator[WeightAveraging]:
    """Yield the callbacks that average the weights (EMA)."""
    return (callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging))  # type: ignore[attr-defined]


def snapshot(trainer: L.Trainer, pl_module: L.LightningModule, memory: HostMemory) -> dict[str, Any]:
    """Copy weights, optimizer state, averaged weights and the loss scale of fp16, without waiting for the GPU."""
    state = {"step": trainer.global_step, "state_dict": pl_module.state_dict()}
    for callback in averaging_callbacks(trainer):
        callback.on_save_checkpoint(trainer, pl_module, state)
    state["optimizer"] = trainer.optimizers[0].state_dict().get("state", {})
    state["precision"] = trainer.precision_plugin.state_dict()
    return memory.copy(state)


def restore(state: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Restore a snapshot. Learning rates and schedules stay as they are."""
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()  # the copies may not be complete yet
    pl_module.load_state_dict(state.get("current_model_state", state["state_dict"]))
    for callback in averaging_callbacks(trainer):
        callback.on_load_checkpoint(trainer, pl_module, state)
    optimizer = trainer.optimizers[0]
    # The optimizer would change the snapshot's tensors in place.
    optimizer.load_state_dict({**optimizer.state_dict(), "state": deepcopy(state["optimizer"])})
    trainer.precision_plugin.load_state_dict(state["precision"])


def cut_learning_rates(trainer: L.Trainer, factor: float) -> None:
    """Multiply the optimizer's learning rates, and the rates that schedules store, for the rest of the run."""
    for group in trainer.optimizers[0].param_groups:
        group.update({key: group[key] * factor for key in RATES if group.get(key) is not None})
    for config in trainer.lr_scheduler_configs:
        _cut(config.scheduler, factor)


def _cut(schedule: LRScheduler, factor: float) -> None:
    for name in SCHEDULE_RATES:
        if name in vars(schedule):
            rates = vars(schedule)[name]
            scaled = [rate * factor for rate in rates] if isinstance(rates, list) else rates * factor
            setattr(schedule, name, scaled)
    for inner in inner_schedules(schedule):
        _cut(inner, factor)
