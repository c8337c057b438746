"""The state of training, kept in the machine's memory and put back; and learning rates, cut for good."""

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from kit.ground._torch import inner_schedules, tree_flatten, tree_unflatten

TRUSTED = 20  # good steps after a snapshot that show that it was good itself
RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")  # of a parameter group, where schedules keep theirs


class Snapshots:
    """The latest state and the one before it.

    A run that is resumed cannot have those that were taken before its checkpoint. So that it goes on as if it had never
    been stopped, both runs begin anew at each checkpoint, with its state; and only in trouble, when that state is not
    to be trusted, does the checkpoint hold the one to go back to.
    """

    def __init__(self) -> None:
        self.good = 0  # steps since the latest
        self._latest: dict[str, Any] | None = None
        self._previous: dict[str, Any] | None = None
        self._spare: dict[str, Any] | None = None

    @property
    def trusted(self) -> dict[str, Any] | None:
        return self._latest if self.good >= TRUSTED or self._previous is None else self._previous

    def take(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        fresh = snapshot(trainer, pl_module, into=self._previous or self._spare)
        self._latest, self._previous, self._spare, self.good = fresh, self._latest, None, 0

    def begin_anew(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """With the state as it is."""
        if self._latest is not None and self._latest["step"] == trainer.global_step and self._previous is None:
            return
        self.take(trainer, pl_module)
        self._spare, self._previous = self._previous, None

    def begin_with(self, state: dict[str, Any] | None) -> None:
        """With that one alone, or with none."""
        self._latest, self._previous, self.good = state, None, 0

    def go_back(self, trainer: L.Trainer, pl_module: L.LightningModule) -> int:
        """To the state before what has gone wrong; returns its step."""
        state = self.trusted
        assert state is not None
        restore(state, trainer, pl_module)
        self.begin_with(state)
        return state["step"]


def averages(trainer: L.Trainer) -> Iterator[WeightAveraging]:
    """The callbacks that average the weights (EMA)."""
    return (callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging))  # type: ignore[attr-defined]


def snapshot(trainer: L.Trainer, pl_module: L.LightningModule, into: dict[str, Any] | None) -> dict[str, Any]:
    """Weights, optimizer, averaged weights and fp16's loss scale, copied to the machine's memory without a wait.

    Args:
        into: an earlier snapshot, whose memory is used again: four times as fast as new memory.
    """
    state = {"step": trainer.global_step, "state_dict": pl_module.state_dict()}
    for callback in averages(trainer):
        callback.on_save_checkpoint(trainer, pl_module, state)
    state["optimizer"] = trainer.optimizers[0].state_dict().get("state", {})
    state["precision"] = trainer.precision_plugin.state_dict()
    leaves, form = tree_flatten(state)
    places, old_form = tree_flatten(into)
    if form != old_form:  # an optimizer has no state before its first step
        places = [None] * len(leaves)
    return tree_unflatten([_copy(leaf, place) for leaf, place in zip(leaves, places, strict=True)], form)


def _copy(leaf: Any, place: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    if not isinstance(place, Tensor) or (place.shape, place.dtype) != (leaf.shape, leaf.dtype):
        place = torch.empty_like(leaf, device="cpu", pin_memory=leaf.is_cuda, requires_grad=False)
    return place.copy_(leaf.detach(), non_blocking=True)


def restore(state: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Back to a snapshot; learning rates and schedules stay where they are."""
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()  # the copies may still be under way
    pl_module.load_state_dict(state.get("current_model_state", state["state_dict"]))
    for callback in averages(trainer):
        callback.on_load_checkpoint(trainer, pl_module, state)
    optimizer = trainer.optimizers[0]
    groups = optimizer.state_dict()["param_groups"]
    # A copy: the optimizer would take these very tensors, and go on in them.
    optimizer.load_state_dict({"state": deepcopy(state["optimizer"]), "param_groups": groups})
    trainer.precision_plugin.load_state_dict(state["precision"])


def cut_learning_rates(trainer: L.Trainer, factor: float) -> None:
    """For good: of the optimizer, and what its schedules make each next rate of."""
    for group in trainer.optimizers[0].param_groups:
        group.update({key: group[key] * factor for key in RATES if group.get(key) is not None})
    for config in trainer.lr_scheduler_configs:
        _cut(config.scheduler, factor)


def _cut(schedule: LRScheduler, factor: float) -> None:
    for name in ("base_lrs", "max_lrs", "min_lrs"):
        if hasattr(schedule, name):
            setattr(schedule, name, [rate * factor for rate in getattr(schedule, name)])
    if hasattr(schedule, "eta_min"):  # otherwise the schedule would raise the rate to its old minimum
        schedule.eta_min *= factor
    for inner in inner_schedules(schedule):
        _cut(inner, factor)
