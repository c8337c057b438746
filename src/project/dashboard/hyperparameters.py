"""A row for each run in TensorBoard's table of hyper-parameters, the best metric beside them."""

import lightning as L

from project.dashboard.tensorboard import TensorBoard
from project.safeguards.stopping import watched


class Hyperparameters(L.Callback):
    """Written at the first validation, since the table shows no metric that was not given with the row
    (Lightning issue 5101); the metric is then renewed whenever it improves."""

    def __init__(self) -> None:
        self._best: float | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        monitor, mode = watched(pl_module, None, None)
        logger = trainer.logger
        if trainer.sanity_checking or not isinstance(logger, TensorBoard) or monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[monitor])
        before, sign = self._best, 1 if mode == "max" else -1
        if before is None or sign * value > sign * before:
            self._best = value
            if before is None:
                data = getattr(trainer, "datamodule", None)
                values = {**pl_module.hparams_initial, **(data.hparams_initial if data else {})}
                logger.log_hyperparams(values, {f"best/{monitor}": value}, trainer.global_step)
            else:
                logger.log_metrics({f"best/{monitor}": value}, trainer.global_step)
