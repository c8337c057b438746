"""Schedules that follow a validation metric."""

import lightning as L
from torch.optim.lr_scheduler import ReduceLROnPlateau

from kit.training.monitor import NEVER, require_logged


class StepAfterValidation(L.Callback):
    """Step a task's `ReduceLROnPlateau` after each validation.

    Lightning steps it after each epoch. If not every epoch is validated, it would see the same value several times; if
    an epoch is validated several times, it would see only the last value. So `kit.training.schedule` sets the frequency
    `NEVER` for Lightning, and this callback steps the schedule.
    """

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        for config in trainer.lr_scheduler_configs:
            if isinstance(config.scheduler, ReduceLROnPlateau) and config.frequency == NEVER:
                key = str(config.monitor)
                require_logged(key, trainer.callback_metrics, "model.schedule")
                config.scheduler.step(float(trainer.callback_metrics[key]))
