"""The only place where private names of Lightning stand. Tried with lightning 2.6.6;
tests/kit/ground/test_private_names.py names those that a version does not have.

Two classes override private methods as well: `kit.safeguards.EarlyStopping` and `kit.safeguards.Checkpoint`.
"""

from typing import Any

import lightning as L
from lightning.pytorch.strategies import DDPStrategy


def has_validated(trainer: L.Trainer) -> bool:
    """Return whether there has been a validation; a run may end before its first one."""
    return trainer.fit_loop.epoch_loop.val_loop._has_run


def logged_step(trainer: L.Trainer) -> int:
    """Return the step at which Lightning logs the loss."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def is_accumulating(trainer: L.Trainer) -> bool:
    """Return whether the next batch's gradients are added to those of earlier batches."""
    return trainer.fit_loop._should_accumulate()


def finish_restart(trainer: L.Trainer) -> None:
    """End the state of a restart; otherwise schedules that follow a metric would miss the end of this epoch."""
    trainer.fit_loop._restarting = False


def restart_loader(trainer: L.Trainer) -> None:
    """Make a new iterator over the training batches.

    The first one was made before the checkpoint was restored: its workers have begun with the first epoch (Lightning
    issue 20550).
    """
    if trainer.fit_loop._data_fetcher is not None:
        iter(trainer.fit_loop._data_fetcher)


def restore_metrics(trainer: L.Trainer, metrics: dict[str, Any]) -> None:
    """Put metrics back into `trainer.callback_metrics`."""
    trainer._logger_connector._callback_metrics.update(metrics)


def prepare_batch(module: L.LightningModule, batch: Any) -> Any:
    """Return a batch as the hooks of a module and of its data module change it before it is sent to the device."""
    return module._on_before_batch_transfer(batch)


def finds_unused_parameters(trainer: L.Trainer) -> bool:
    """Return whether distributed training looks for parameters that got no gradient."""
    strategy = trainer.strategy
    return isinstance(strategy, DDPStrategy) and bool(strategy._ddp_kwargs.get("find_unused_parameters"))
