"""Optimizers and learning rates over a run. A schedule is called with the optimizer and the run's number of steps."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from project import UserError

if TYPE_CHECKING:
    from lightning import LightningModule
    from lightning.pytorch.cli import OptimizerCallable
    from lightning.pytorch.utilities.types import OptimizerLRScheduler


class WarmupCosine(LambdaLR):
    """Up in a straight line, then down along half a cosine (Loshchilov and Hutter 2017, SGDR, without restarts).

    Args:
        optimizer: its learning rate is the highest.
        steps: of the whole run; one optimizer step each.
        warmup: the share of the steps that go up.
        final: where it ends, as a share of the highest rate.
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup: float = 0.1, final: float = 0.0) -> None:
        super().__init__(optimizer, partial(_factor, steps=steps, warmup=warmup, final=final))


def _factor(step: int, steps: int, warmup: float, final: float) -> float:
    up = max(1.0, warmup * steps)
    if step < up:
        return (step + 1) / (up + 1)
    share = min(1.0, (step - up) / max(1.0, steps - up))
    return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * share))


def optimizer_and_schedule(
    task: "LightningModule",
    optimizer: "OptimizerCallable",
    schedule: Callable[[Optimizer, int], LRScheduler] | None,
) -> "OptimizerLRScheduler":
    """What a task's `configure_optimizers` returns: norms and biases do not decay, the schedule steps after each batch.

    Raises:
        UserError: a schedule is wanted, but nobody knows how long the run will be.
    """
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    decayed = [parameter for parameter in trained if parameter.ndim > 1]
    others = [parameter for parameter in trained if parameter.ndim <= 1]
    made = optimizer([{"params": decayed}, {"params": others, "weight_decay": 0.0}])
    if schedule is None:
        return made
    steps = task.trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise UserError("the schedule needs the run's length: --trainer.max_epochs N, or --model.schedule null")
    return {"optimizer": made, "lr_scheduler": {"scheduler": schedule(made, int(steps)), "interval": "step"}}
