"""A row for each run in TensorBoard's table of hyper-parameters, the best metric beside them."""

import math
from collections.abc import Collection
from typing import Any

import lightning as L

from kit.dashboard.tensorboard import TensorBoard
from kit.safeguards.checkpoints import judged_by

HOW = ("cache", "cache_dir", "num_workers")  # a run computes, which changes nothing of its result


class Hyperparameters(L.Callback):
    """Written at the first validation, since the table shows no metric that was not given with the row
    (Lightning issue 5101); the metrics that the run is judged by are then renewed whenever they improve.

    Args:
        ignore: arguments of the model that nobody chose, since the data told them.
    """

    def __init__(self, ignore: Collection[str] = ()) -> None:
        self.ignore = ignore
        self._best: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = {key: float(value) for key, value in state_dict["best"].items()}

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoard)]
        known = trainer.callback_metrics
        if trainer.sanity_checking or not boards:
            return
        improved: dict[str, float] = {}
        for key, mode in judged_by(trainer, pl_module).items():
            sign = 1 if mode == "max" else -1
            if key in known and sign * known[key] > sign * self._best.get(key, -sign * math.inf):
                improved[key] = float(known[key])
        scalars = {f"best/{key}": value for key, value in improved.items()}
        if improved and not self._best:
            boards[0].log_hyperparams(self._chosen(trainer, pl_module), scalars, trainer.global_step)
        elif improved:
            boards[0].log_metrics(scalars, trainer.global_step)
        self._best |= improved

    def _chosen(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for part, module in (("model", pl_module), ("data", getattr(trainer, "datamodule", None))):
            if module is not None:
                chosen |= {part: type(module).__name__, **module.hparams_initial}
        left_out = {*self.ignore, *HOW}
        return {key: value for key, value in chosen.items() if key not in left_out and key[0] != "_"}
