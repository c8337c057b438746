"""Measure an optimizer step, skip it, and detect a loss that diverges."""

from collections import deque
from itertools import chain
from statistics import median

import lightning as L
import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from kit.ground._lightning import loss_scaler
from kit.ground._torch import buffers_by_owner
from kit.safeguards.nan.rollback import averaging_callbacks

# The losses of detectors and of small batches vary by a factor of three, and a wrong label can cause any loss in one
# batch. Only a divergence gives fifty batches in a row with a loss that is ten times the median above the median.
WINDOW = 200  # the number of losses for the median
MIN_LOSSES = 20  # the number of losses before any loss can count as high
HIGH_FACTOR = 10.0  # a loss that exceeds the median by more than this multiple of it is high
MAX_HIGH_LOSSES = 50  # the number of high losses in a row that show a divergence


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
        """Add a loss and return whether the run has diverged."""
        if len(self.losses) >= MIN_LOSSES and loss > self._limit():
            self.high_count += 1
        else:
            self.high_count = 0
            self.losses.append(loss)
        return self.high_count >= MAX_HIGH_LOSSES

    def _limit(self) -> float:
        """Return the largest loss that is not high. The spread sets it if losses are around zero."""
        middle = median(self.losses)
        spread = median(abs(loss - middle) for loss in self.losses)
        return middle + HIGH_FACTOR * max(abs(middle), spread)


def measure_step(trainer: L.Trainer, losses: list[Tensor]) -> Tensor | None:
    """Return four numbers about a step, averaged over all processes.

    Args:
        losses: the losses of the step's batches, divided by the number of batches and multiplied by fp16's loss scale.

    Returns:
        Float[4] on the device: the share of processes in which the step is bad, the share in which its loss is not
        finite, the mean loss (a bad step counts as 0), and the mean norm of the gradient. None if there is no loss or
        no gradient.
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
    numbers = torch.stack([is_bad.float(), loss_is_bad.float(), torch.where(is_bad, 0.0, loss), norm])
    return trainer.strategy.reduce(numbers, reduce_op="mean")


SavedBuffers = list[tuple[dict[str, Tensor | None], str, Tensor]]


def save_buffers(module: nn.Module) -> SavedBuffers:
    """Return copies of a module's buffers, such as BatchNorm's statistics, with the dict and key of each buffer."""
    entries = [(owner, name, owner[name]) for owner, name in buffers_by_owner(module)]
    return [(owner, name, buffer.clone()) for owner, name, buffer in entries if buffer is not None]


def skip_step(trainer: L.Trainer, buffers: SavedBuffers) -> None:
    """Let the next optimizer step leave weights, optimizer state, buffers and averaged weights unchanged.

    Args:
        buffers: the buffers from before the step's first forward pass.
    """
    optimizer = trainer.optimizers[0]
    if loss_scaler(trainer) is not None and _unscales_itself(optimizer):
        for parameter in _parameters(optimizer):
            if parameter.grad is not None:
                parameter.grad.fill_(float("inf"))  # the scaler skips this; without gradients it would fail
    else:
        optimizer.zero_grad(set_to_none=True)  # optimizers ignore parameters without a gradient
    for owner, name, saved in buffers:
        owner[name].copy_(saved)  # type: ignore[union-attr]
    for callback in averaging_callbacks(trainer):  # mark this step as already averaged
        callback.load_state_dict({**callback.state_dict(), "latest_update_step": trainer.global_step + 1})


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return list(chain(*(group["params"] for group in optimizer.param_groups)))


def _unscales_itself(optimizer: Optimizer) -> bool:
    """Return whether the optimizer itself divides by fp16's loss scale, as fused ones do (see `GradScaler.step`)."""
    return getattr(optimizer, "_step_supports_amp_scaling", False)
