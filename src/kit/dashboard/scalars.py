"""What is drawn against the steps beside what the task logs, and which curves share a chart."""

from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from kit.dashboard.tensorboard import TensorBoard
from kit.ground._lightning import logged_step
from kit.safeguards import NanGuard
from kit.training.monitor import watched

MOST_POINTS = 1000  # then every second one is left out, and so on: a day's log stays small


class Scalars:
    """The learning rate and the norm of the gradient before clipping, at the steps at which the loss is logged.

    They depend on the step alone, so that a resumed run has the same.
    """

    def __init__(self) -> None:
        self._norm: Tensor | None = None
        self._rates: dict[str, float] = {}

    def before_step(self, trainer: L.Trainer) -> None:
        """Before the schedule moves on."""
        if self._due(trainer):
            self._rates = learning_rates(trainer)

    def before_optimizer(self, trainer: L.Trainer, optimizer: Optimizer) -> None:
        if self._due(trainer) and _guard(trainer) is None:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self._norm = torch.nn.utils.get_total_norm(gradients) if gradients else None

    def after_step(self, trainer: L.Trainer, board: TensorBoard) -> None:
        if not self._due(trainer) or trainer.fit_loop._should_accumulate():
            return
        guard = _guard(trainer)
        norm = self._norm if guard is None else guard.gradient_norm
        values = dict(self._rates)
        if norm is not None and norm.isfinite():
            values["gradient_norm"] = float(norm)
        board.log_metrics(values, logged_step(trainer))

    def _due(self, trainer: L.Trainer) -> bool:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        step = logged_step(trainer) + 1
        return every > 0 and step % thinned(every, step) == 0


def thinned(every: int, step: int) -> int:
    """Every how many steps a point is drawn: `every`, and twice as many whenever the steps have doubled again."""
    return every * 2 ** (step // (MOST_POINTS * every)).bit_length()


def learning_rates(trainer: L.Trainer) -> dict[str, float]:
    """One where all parameters have the same, else one for each group of them."""
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    rates = [float(group["lr"]) for group in groups]
    if len(set(rates)) == 1:
        return {"learning_rate": rates[0]}
    return {f"learning_rate/{place}": rate for place, rate in enumerate(rates, 1)}


def layout(pl_module: L.LightningModule) -> dict[str, Any]:
    """For the custom scalars: training beside validation. Tags are patterns there."""
    monitor, _ = watched(pl_module, None, None)
    name = monitor.rsplit("/", 1)[-1]
    charts = {"loss": ["train/loss$", "val/loss$"]}
    if name != "loss":
        charts[name] = [f"overfitting/train_{name}$", f"{monitor}$"]
    charts |= {
        "learning rate": ["learning_rate"],
        "norm of the gradient before clipping": ["gradient_norm$"],
        "images a second": ["speed/images_per_second$"],
        "share of the time that waits for images": ["speed/waiting_share$"],
    }
    return {"training and validation": {title: ["Multiline", tags] for title, tags in charts.items()}}


def _guard(trainer: L.Trainer) -> NanGuard | None:
    """It has computed the norm of each step already."""
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, NanGuard)), None)
