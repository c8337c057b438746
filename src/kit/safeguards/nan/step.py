"""Take and restore snapshots of the training state, lower learning rates, and detect a loss that diverges.

`measure_step` finds out whether an optimizer step is bad, and `skip_step` skips it.
"""

from collections import deque
from copy import deepcopy
from itertools import chain
from statistics import median
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kit.ground._lightning import averaging_callbacks, loss_scaler
from kit.ground._torch import inner_schedules
from kit.ground.memory import copy_to_cpu

MIN_GOOD_STEPS = 20  # a snapshot is trusted if this number of good steps followed it
GROUP_RATES = ("lr", "initial_lr", "max_lr", "min_lr", "swa_lr")  # the keys of learning rates in a parameter group
SCHEDULE_RATES = ("base_lrs", "max_lrs", "min_lrs", "eta_min")  # the attributes of schedules that hold learning rates


class Snapshots:
    """The last two snapshots of the training state.

    A resumed run lacks the snapshots from before its checkpoint. Therefore every run drops its snapshots when it writes
    a checkpoint, and takes one of the current state. Otherwise a resumed run could restore another state than a run
    without interruption. The exception: while the loss is high, `NanGuard.on_save_checkpoint` drops no snapshots.

    Attributes:
        good_steps: the number of good steps since the last snapshot.
    """

    def __init__(self) -> None:
        self._states: deque[dict[str, Any]] = deque(maxlen=2)
        self.good_steps = 0

    @property
    def trusted(self) -> dict[str, Any]:
        """The last snapshot if it is the only one or enough good steps followed it, else the one before it."""
        return self._states[-1 if self.good_steps >= MIN_GOOD_STEPS else 0]

    def take(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Take a snapshot. Only this one and the one before it are kept."""
        self._states.append(snapshot(trainer, pl_module))
        self.good_steps = 0

    def reset_to_current(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep only a snapshot of the current state."""
        self._states.clear()
        self.take(trainer, pl_module)

    def restore_trusted(self, trainer: L.Trainer, pl_module: L.LightningModule) -> int:
        """Restore the trusted snapshot, drop the other one, and return the step at which it was taken."""
        state = self.trusted
        restore(state, trainer, pl_module)
        self._states = deque([state], maxlen=2)
        self.good_steps = 0
        return state["step"]


def snapshot(trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
    """Copy weights, averaged weights, optimizer state and the loss scale of fp16, without waiting for the GPU."""
    state = {"step": trainer.global_step, "state_dict": pl_module.state_dict()}
    for callback in averaging_callbacks(trainer):
        callback.on_save_checkpoint(trainer, pl_module, state)
    state["optimizer"] = trainer.optimizers[0].state_dict().get("state", {})
    state["precision"] = trainer.precision_plugin.state_dict()
    return copy_to_cpu(state)


def restore(state: dict[str, Any], trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Restore a snapshot. Learning rates and schedules stay as they are."""
    if trainer.strategy.root_device.type == "cuda":
        torch.cuda.synchronize()  # the copies to the CPU may not be complete yet
    # If weights are averaged, `WeightAveraging` has put the averages into `state_dict`.
    pl_module.load_state_dict(state.get("current_model_state", state["state_dict"]))
    for callback in averaging_callbacks(trainer):
        callback.on_load_checkpoint(trainer, pl_module, state)
    optimizer = trainer.optimizers[0]
    # Copy the tensors, since the optimizer's later steps change them in place.
    optimizer.load_state_dict({**optimizer.state_dict(), "state": deepcopy(state["optimizer"])})
    trainer.precision_plugin.load_state_dict(state["precision"])


def scale_learning_rates(trainer: L.Trainer, factor: float) -> None:
    """Multiply the optimizer's learning rates by a factor, and also the learning rates that schedules store."""
    for group in trainer.optimizers[0].param_groups:
        group.update({key: group[key] * factor for key in GROUP_RATES if group.get(key) is not None})
    for config in trainer.lr_scheduler_configs:
        _scale_schedule(config.scheduler, factor)


def _scale_schedule(schedule: LRScheduler, factor: float) -> None:
    for name in SCHEDULE_RATES:
        if name in vars(schedule):
            rates = vars(schedule)[name]
            scaled = [rate * factor for rate in rates] if isinstance(rates, list) else rates * factor
            setattr(schedule, name, scaled)
    for inner in inner_schedules(schedule):
        _scale_schedule(inner, factor)


# The losses of detectors and of small batches vary by a factor of three, and a wrong label can cause any loss in one
# batch. Only a divergence gives fifty losses in a row that exceed the median by more than ten times the median.
WINDOW = 200  # the median is taken over this number of losses
MIN_LOSSES = 20  # until there are this many losses, none counts as high
HIGH_FACTOR = 10.0  # see `DivergenceDetector._limit`
MAX_HIGH_LOSSES = 50  # after this number of high losses in a row, the loss has diverged


class DivergenceDetector:
    """Detect a loss that stays far above its running median. High losses do not enter the median.

    Attributes:
        losses: the last losses that were not high.
        high_count: the current number of high losses in a row.
    """

    def __init__(self) -> None:
        self.losses: deque[float] = deque(maxlen=WINDOW)
        self.high_count = 0

    def update(self, loss: float) -> bool:
        """Add a loss, and return whether the loss has diverged."""
        if len(self.losses) >= MIN_LOSSES and loss > self._limit():
            self.high_count += 1
        else:
            self.high_count = 0
            self.losses.append(loss)
        return self.high_count >= MAX_HIGH_LOSSES

    def _limit(self) -> float:
        """Return the largest loss that is not high: the median plus `HIGH_FACTOR` times the median.

        Losses may be around zero. If their median absolute deviation exceeds their median, the factor applies to this
        deviation instead.
        """
        middle = median(self.losses)
        spread = median(abs(loss - middle) for loss in self.losses)
        return middle + HIGH_FACTOR * max(abs(middle), spread)


def measure_step(trainer: L.Trainer, losses: list[Tensor]) -> Tensor | None:
    """Return four numbers about the coming optimizer step, averaged over all processes.

    Args:
        losses: the losses of the step's batches. Each is divided by the number of batches, and multiplied by the loss
            scale of fp16 if there is one.

    Returns:
        None if there is no loss or no gradient. Otherwise, Float[4] on the device:
        the share of processes in which the loss or a gradient is not finite,
        the share of processes in which the loss is not finite,
        the mean loss, in which the loss of a process counts as 0 if its step is bad,
        and the mean norm of the gradient before clipping, without the loss scale.
    """
    optimizer = trainer.optimizers[0]
    gradients = [p.grad for p in _parameters(optimizer) if p.grad is not None]
    if not losses or not gradients:
        return None
    scale = loss_scaler(trainer).get_scale() if loss_scaler(trainer) else 1.0
    loss = torch.stack(losses).sum().float() / scale
    norm = get_total_norm(gradients).float()
    loss_is_bad = ~loss.isfinite()
    is_bad = loss_is_bad | ~norm.isfinite()
    if _unscales_itself(optimizer):
        norm = norm / scale
    measurements = torch.stack([is_bad.float(), loss_is_bad.float(), torch.where(is_bad, 0.0, loss), norm])
    return trainer.strategy.reduce(measurements, reduce_op="mean")


def skip_step(trainer: L.Trainer, pl_module: L.LightningModule, buffers: dict[str, Tensor]) -> None:
    """Make the coming optimizer step leave weights, optimizer and averaged weights unchanged, and restore buffers.

    Args:
        buffers: copies of the module's buffers, such as BatchNorm's statistics, from before the step's first forward
            pass.
    """
    optimizer = trainer.optimizers[0]
    if loss_scaler(trainer) is not None and _unscales_itself(optimizer):
        for parameter in _parameters(optimizer):
            if parameter.grad is not None:
                parameter.grad.fill_(float("inf"))  # the scaler skips such a step, and fails without gradients
    else:
        optimizer.zero_grad(set_to_none=True)  # optimizers ignore parameters without a gradient
    for name, buffer in buffers.items():
        pl_module.get_buffer(name).copy_(buffer)
    for callback in averaging_callbacks(trainer):  # mark this step as already averaged
        callback.load_state_dict({**callback.state_dict(), "latest_update_step": trainer.global_step + 1})


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return list(chain(*(group["params"] for group in optimizer.param_groups)))


def _unscales_itself(optimizer: Optimizer) -> bool:
    """Return whether the optimizer, and not the scaler, divides gradients by the loss scale of fp16.

    Fused optimizers do so, see `GradScaler.step`.
    """
    return getattr(optimizer, "_step_supports_amp_scaling", False)
