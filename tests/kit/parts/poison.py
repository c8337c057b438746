"""Callbacks that put a NaN into a run, or end it, for tests of the guards."""

import os
import signal

import lightning as L
import torch
from torch.utils._pytree import tree_leaves


class Poison(L.Callback):
    """Put a NaN into the input, the loss, a gradient or (before the step) a weight.

    Args:
        where: input, loss, gradient or weight.
        steps: the optimizer steps of the whole run, from 0.
        rank: the process into which it is put.
    """

    def __init__(self, where: str, steps: list[int], rank: int = 0):
        self.where, self.steps, self.rank = where, set(steps), rank

    def _now(self, trainer: L.Trainer, where: str) -> bool:
        return where == self.where and trainer.global_step in self.steps and trainer.global_rank == self.rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if self._now(trainer, "input"):
            next(leaf for leaf in tree_leaves(batch) if leaf.is_floating_point())[0].fill_(float("nan"))
        if self._now(trainer, "weight"):
            with torch.no_grad():
                next(pl_module.parameters()).view(-1)[0] = float("nan")

    def on_before_backward(self, trainer, pl_module, loss):
        if self._now(trainer, "loss"):
            loss.data.fill_(float("nan"))
            loss.register_hook(lambda gradient: gradient * float("nan"))

    def on_after_backward(self, trainer, pl_module):
        if self._now(trainer, "gradient"):
            next(pl_module.parameters()).grad.view(-1)[0] = float("nan")


class Terminated(L.Callback):
    """Send SIGTERM to each process.

    Args:
        step: the optimizer step at which it is sent, from 0.
    """

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)
