"""Use Lightning's private names, and attributes that are not always set. Tested with lightning 2.6.6.

tests/kit/ground/test_private_names.py fails if a name is missing. The test also covers the private names in these
subclasses: `kit.safeguards.EarlyStopping`, `kit.safeguards.Checkpoint`, `kit.training.EMA` and the logger in
`kit.dashboard.tensorboard`.
"""

from collections.abc import Iterator
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import WeightAveraging


def has_validated_a_batch(trainer: L.Trainer) -> bool:
    """Return whether the latest validation, which may still be running, has completed a batch."""
    return trainer.fit_loop.epoch_loop.val_loop._has_run


def logged_step(trainer: L.Trainer) -> int:
    """Return the number of the step under which Lightning logs the loss."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def is_accumulating(trainer: L.Trainer) -> bool:
    """Return whether the next batch's gradients are added to the gradients of earlier batches."""
    return trainer.fit_loop._should_accumulate()


def finish_restart(trainer: L.Trainer) -> None:
    """Mark a restart as complete. Otherwise `ReduceLROnPlateau` would miss the end of this epoch."""
    trainer.fit_loop._restarting = False


def restart_loader(trainer: L.Trainer) -> None:
    """Make a new iterator over the training batches.

    Lightning makes the first iterator before it restores the checkpoint, so that the iterator's workers read batches of
    the first epoch (Lightning issue 20550).
    """
    if trainer.fit_loop._data_fetcher is not None:
        iter(trainer.fit_loop._data_fetcher)


def restore_metrics(trainer: L.Trainer, metrics: dict[str, Any]) -> None:
    """Put metrics back into `trainer.callback_metrics`."""
    trainer._logger_connector._callback_metrics.update(metrics)


def prepare_batch(module: L.LightningModule, batch: Any) -> Any:
    """Return a batch after `on_before_batch_transfer`: the data module's hook or, if it defines none, the module's."""
    return module._on_before_batch_transfer(batch)


def validate(trainer: L.Trainer) -> None:
    """Validate before the first step, as Lightning does within an epoch."""
    connector = trainer._logger_connector
    is_first_iteration = connector._first_loop_iter  # the validation changes this
    trainer.validating = True
    trainer.fit_loop.epoch_loop.val_loop.run()
    trainer.training = True
    connector._first_loop_iter = is_first_iteration


def averaging_callbacks(trainer: L.Trainer) -> Iterator[WeightAveraging]:
    """Yield the callbacks that average the weights (EMA)."""
    return (callback for callback in trainer.callbacks if isinstance(callback, WeightAveraging))  # type: ignore[attr-defined]


def reset_averaged_weights(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Set the averaged weights to the current weights."""
    for callback in averaging_callbacks(trainer):
        if callback._average_model is not None:
            callback._average_model.module.load_state_dict(pl_module.state_dict())


def loss_scaler(trainer: L.Trainer) -> Any:
    """Return the loss scaler of fp16, or None."""
    return getattr(trainer.precision_plugin, "scaler", None)  # only some precision plugins have a scaler


def disable_signal_handlers(trainer: L.Trainer) -> None:
    """Stop Lightning from installing its signal handlers, which ignore signals before the first step."""
    trainer._signal_connector.register_signal_handlers = _do_nothing  # type: ignore[method-assign]


def _do_nothing() -> None:  # not a lambda, since some strategies pickle the trainer
    pass


def data_module(trainer: L.Trainer) -> Any:
    """Return the data module, or None."""
    return getattr(trainer, "datamodule", None)  # a trainer without a data module lacks the attribute
