"""Find out whether an optimizer step is bad, skip a step, and detect a loss that diverges."""

from collections import deque
from itertools import chain
from statistics import median

import lightning as L
import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from kit.ground._lightning import loss_scaler
from kit.safeguards.nan.rollback import averaging_callbacks

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

        If the median absolute deviation exceeds the median, since losses are around zero, the factor applies to it.
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
    """Make the coming optimizer step leave weights, optimizer state and averaged weights unchanged; restore buffers.

    Args:
        buffers: copies of the module's buffers, such as BatchNorm's statistics, from before the step's first forward
            pass.
    """
    optimizer = trainer.optimizers[0]
    if loss_scaler(trainer) is not None and _unscales_itself(optimizer):
        for parameter in _parameters(optimizer):
            if parameter.grad is not None:
                parameter.grad.fill_(float("inf"))  # the scaler skips such a step; without gradients it would fail
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
