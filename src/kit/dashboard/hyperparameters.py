"""Log each run's settings and best metric, as a row of TensorBoard's tab HParams."""

import math
from collections.abc import Collection
from typing import Any

import lightning as L

from kit.dashboard.tensorboard import TensorBoard
from kit.safeguards.checkpoints import judged_by

IGNORED = ("cache", "cache_dir", "num_workers")  # arguments that do not change the result


class Hyperparameters(L.Callback):
    """Log the row at the first validation, and the metrics that judge the run whenever they improve.

    The row is not logged earlier, since the table only shows metrics that are logged with it (Lightning issue 5101).

    Args:
        ignore: more arguments to leave out, as those that the data set and nobody chose.
    """

    def __init__(self, ignore: Collection[str] = ()) -> None:
        self.ignored = {*ignore, *IGNORED}
        self._best: dict[str, float] = {}

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        board = next((logger for logger in trainer.loggers if isinstance(logger, TensorBoard)), None)
        if trainer.sanity_checking or not board:
            return
        improved: dict[str, float] = {}
        for key, mode in judged_by(trainer, pl_module).items():
            sign, value = (1 if mode == "max" else -1), float(trainer.callback_metrics.get(key, math.nan))
            if sign * value > sign * self._best.get(key, -sign * math.inf):
                improved[key] = value
        scalars = {f"best/{key}": value for key, value in improved.items()}
        if improved and not self._best:
            board.log_hyperparams(self._settings(trainer, pl_module), scalars, trainer.global_step)
        elif improved:
            board.log_metrics(scalars, trainer.global_step)
        self._best |= improved

    def _settings(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        settings: dict[str, Any] = {}
        for part, owner in (("model", pl_module), ("data", trainer.datamodule)):  # type: ignore[attr-defined]
            if owner is not None:
                settings |= {part: type(owner).__name__, **owner.hparams_initial}
        return {key: value for key, value in settings.items() if key not in self.ignored and key[0] != "_"}
