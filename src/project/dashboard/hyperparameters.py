"""A row for each run in TensorBoard's table of hyper-parameters, the best metric beside them."""

from collections.abc import Collection
from typing import Any

import lightning as L

from project.dashboard.tensorboard import TensorBoard
from project.safeguards.stopping import judged_by


class Hyperparameters(L.Callback):
    """Written at the first validation, since the table shows no metric that was not given with the row
    (Lightning issue 5101); the metric is then renewed whenever it improves.

    Args:
        ignore: arguments of the model that nobody chose, since the data told them.
    """

    def __init__(self, ignore: Collection[str] = ()) -> None:
        self.ignore = ignore
        self._best: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._best = state_dict["best"]

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        monitor, mode = judged_by(trainer, pl_module)
        logger = trainer.logger
        if trainer.sanity_checking or not isinstance(logger, TensorBoard) or monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[monitor])
        before, sign = self._best, 1 if mode == "max" else -1
        if before is None or sign * value > sign * before:
            self._best = value
            if before is None:
                logger.log_hyperparams(
                    self._chosen(trainer, pl_module), {f"best/{monitor}": value}, trainer.global_step
                )
            else:
                logger.log_metrics({f"best/{monitor}": value}, trainer.global_step)

    def _chosen(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        chosen: dict[str, Any] = {}
        for part, module in (("model", pl_module), ("data", getattr(trainer, "datamodule", None))):
            if module is not None:
                chosen |= {part: type(module).__name__, **module.hparams_initial}
        return {key: value for key, value in chosen.items() if key not in self.ignore and not key.startswith("_")}
