"""The callback: save and restore checkpoints from which a run continues exactly."""

import math
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

from kit.data import ImageDataModule
from kit.ground import _lightning, signals
from kit.ground.errors import RunFailed, Stopped
from kit.ground.ranges import NonNegativeFloat
from kit.safeguards.checkpoints import Checkpoint
from kit.safeguards.resume.schedules import InitialState
from kit.safeguards.resume.signals import Agreement, Signals
from kit.safeguards.resume.writing import KEY, LAST, Writer


class ExactResume(L.Callback):
    """Write `RUN/checkpoints/last.ckpt`, from which a run continues bit for bit, and keep the previous one.

    The checkpoint is written between two steps, before a validation (which a resumed run repeats), or between two
    epochs. The random numbers of a step depend only on seed, process, epoch and batch. The trainer must call this
    callback first, before other callbacks begin the next step.

    Limits: A checkpoint does not hold values that are accumulated over a training epoch, by
    `self.log(..., on_epoch=True)` or by a torchmetrics object. In a resumed epoch, they cover only the batches after
    the resume. If `on_after_batch_transfer` draws random numbers, the first batch after a resume may get different
    ones; `ImageDataModule` draws none there.

    Args:
        enabled: if False, there is no `last.ckpt`, and a signal ends the run at once.
        every_minutes: the time between two checkpoints within an epoch. A checkpoint is also written before each
            validation, or after each epoch if there is no validation.
    """

    def __init__(self, enabled: bool = True, every_minutes: NonNegativeFloat = 10.0) -> None:
        self.enabled, self.every_seconds = enabled, 60 * every_minutes
        # Whether the config differs from the stopped run's. The optimizer then gets its new arguments.
        self.config_changed = False
        self.writer, self.signals = Writer(), Signals()
        self._checkpoint_state: dict[str, Any] = {}  # this callback's part of the checkpoint, until it is restored
        self._config_exists = False  # whether the run's folder had a `config.yaml` at the latest check
        # `_just_validated`: whether a validation has started since the last training batch.
        self._saved_at, self._saved_step, self._just_validated = 0.0, -1, False
        self._planned_steps = 0.0  # the optimizer steps of the whole run; 0 before training starts
        self._step_counts: dict[str, float] = {}  # the result of the function `_step_counts`

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.enabled = self.enabled and not trainer.fast_dev_run  # type: ignore[attr-defined]
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # set by Lightning's `seed_everything`
        if self.enabled:
            _lightning.disable_signal_handlers(trainer)
        if stage != TrainerFn.FITTING:
            return
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        checkpoints = self.folder / "checkpoints"
        for callback in trainer.checkpoint_callbacks:
            # The user's callbacks get their own folders, so that they do not overwrite the run's files. The path must
            # be absolute: Lightning drops the state of such a callback if its path differs in the resumed run.
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                is_ours = isinstance(callback, Checkpoint)
                callback.dirpath = str(checkpoints if is_ours else checkpoints.absolute() / type(callback).__name__)
        if self.enabled:
            trainer.strategy.checkpoint_io = self.writer
            # Listen before the workers start. Otherwise a signal could raise an exception while they start, and leave
            # some of them running.
            self.signals.listen(trainer)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING and KEY in checkpoint:
            self._checkpoint_state = checkpoint[KEY]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._checkpoint_state:
            self._initial_state = InitialState(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._planned_steps, self._step_counts = float(trainer.estimated_stepping_batches), _step_counts(trainer)
        if self._checkpoint_state:
            self._restore(trainer, pl_module)
        self._checkpoint_state = {}
        if self.enabled:
            self._agreement = Agreement(trainer.world_size)
            self._saved_at = time.monotonic()

    def _restore(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore what Lightning does not restore exactly: schedules, the latest metrics, the position in the epoch."""
        loop = trainer.fit_loop
        self._saved_step = trainer.global_step
        # Checkpoints of earlier versions have only the number of processes.
        old = {**self._step_counts, **self._checkpoint_state}
        changes = [f"{old[key]} {key} before, {now} now" for key, now in self._step_counts.items() if old[key] != now]
        if changes:
            state = loop.state_dict()
            _return_to_epoch_start(state)
            loop.load_state_dict(state)
            loop.reset()  # the loop has chosen its position before this hook, so let it choose again
            effect = "an unfinished epoch starts again, and batches differ from here on"
            rank_zero_only(print)(f"{', '.join(changes)}: {effect}")
        # Whether a schedule must go back with the epoch: not if the run's length is given in steps or as a time.
        goes_back = bool(changes) and self._planned_steps not in (trainer.max_steps, math.inf)
        if self._planned_steps != self._checkpoint_state["planned"] or self.config_changed or goes_back:
            self._initial_state.apply(trainer, self.config_changed, goes_back)
            if any(config.interval == "step" for config in trainer.lr_scheduler_configs):
                rank_zero_only(print)(f"the schedule is computed again, for {self._planned_steps:,.0f} steps in all")
        _lightning.restore_metrics(trainer, self._checkpoint_state["metrics"])
        _lightning.finish_restart(trainer)
        progress: Any = loop.epoch_progress.current
        if progress.started > progress.completed:
            # Lightning does not call `on_train_epoch_start` for a resumed epoch. A task may freeze weights there.
            self._seed(trainer, 0)
            pl_module.on_train_epoch_start()
            is_ours = isinstance(trainer.datamodule, ImageDataModule)  # type: ignore[attr-defined]
            if loop.epoch_loop.batch_progress.current.completed and not is_ours:
                rank_zero_warn("the data module is not an ImageDataModule: this epoch repeats its first batches")
        else:
            loop.epoch_loop.restarting = False  # at the start of an epoch, the loop must skip no batches
        _lightning.restart_loader(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.enabled:
            self._require_folder(trainer)
            _, idle, stop = self._ask_processes(trainer)
            # False if a validation has saved this step already.
            is_unsaved = trainer.global_step > max(0, self._saved_step)
            self._save_and_stop(trainer, stop or (idle and is_unsaved), stop)
            self._seed(trainer, 0)

    def on_train_batch_start(self, trainer: L.Trainer, _: Any, batch: Any, batch_idx: int) -> None:
        if self.enabled:
            due, idle, stop = self._ask_processes(trainer)
            # Do not save while gradients are accumulated, nor just after a validation: `on_validation_start` has saved.
            if batch_idx and batch_idx % trainer.accumulate_grad_batches == 0 and not self._just_validated:
                self._save_and_stop(trainer, (due and idle) or stop, stop)
            self._just_validated = False
            self._seed(trainer, 1 + batch_idx)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.enabled and trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._require_folder(trainer)
            stop = self._ask_processes(trainer)[-1]
            self._just_validated = True
            # Before the first step there is nothing to save. If the run stops here, a resumed run starts anew.
            save = trainer.global_step > 0 and not _lightning.is_accumulating(trainer)
            self._save_and_stop(trainer, save, stop)
            self._seed(trainer, -trainer.global_step)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.enabled and self.signals.received is not None and trainer.state.fn == TrainerFn.FITTING:
            raise self.stop_exception()  # `on_validation_start` has saved a checkpoint, if it could

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.enabled:
            self._require_folder(trainer)
            self._save_and_stop(trainer, trainer.global_step > max(0, self._saved_step), False)
            self.writer.teardown()
            trainer.strategy.barrier()  # all processes read the best checkpoint next
            self.signals.restore()
            # With several processes, a call returns the answers to the previous call, so ask twice.
            if any(self._ask_processes(trainer)[-1] for _ in range(2)):
                raise self.stop_exception()  # the model would be tested next; the resumed run tests it instead

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.signals.restore()  # without training, `on_train_end` is not called

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.signals.restore()

    def _require_folder(self, trainer: L.Trainer) -> None:
        """Raise `RunFailed` if the run's folder was removed. A checkpoint would create a folder without a config."""
        config_existed, self._config_exists = self._config_exists, (self.folder / "config.yaml").is_file()
        if trainer.is_global_zero and config_existed and not self._config_exists:
            raise RunFailed(f"{self.folder} was removed or renamed during the run: there is no config.yaml any more")

    def _ask_processes(self, trainer: L.Trainer) -> list[bool]:
        """Return whether a checkpoint is due, whether the writer is idle, and whether the run must stop.

        With several processes, these are the answers to the previous call: see `Agreement`.
        """
        due = trainer.is_global_zero and time.monotonic() - self._saved_at >= self.every_seconds
        idle = trainer.is_global_zero and not self.writer.busy
        return self._agreement(due, idle, self.signals.received is not None)

    def stop_exception(self) -> Stopped:
        """Return the exception that ends a run after a signal. Only the first process has a message."""
        stopped = signals.stop_exception(self.signals.received or signal.SIGTERM)
        return Stopped("", stopped.number) if rank_zero_only.rank else stopped  # type: ignore[attr-defined]

    def _save_and_stop(self, trainer: L.Trainer, save: bool, stop: bool) -> None:
        """Save a checkpoint if `save` is True. Then end the run if `stop` is True."""
        if save:
            trainer.save_checkpoint(self.folder / "checkpoints" / LAST)
            self._saved_at, self._saved_step = time.monotonic(), trainer.global_step
        if stop:
            raise self.stop_exception()

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self.enabled and trainer.state.fn == TrainerFn.FITTING and self._planned_steps:
            _correct_progress(checkpoint["loops"]["fit_loop"], validating=trainer.validating)
            metrics = dict(trainer.callback_metrics)
            checkpoint[KEY] = {**self._step_counts, "planned": self._planned_steps, "metrics": metrics}

    def _seed(self, trainer: L.Trainer, moment: int) -> None:
        """Seed all random numbers.

        Args:
            moment: 0 for the start of an epoch, n for its n-th batch, -n for the validation after step n of the run.
        """
        key = (self.seed, trainer.global_rank, trainer.current_epoch, abs(moment), int(moment < 0))
        number = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(number)  # `torch.manual_seed` sets all devices, which takes 0.1 ms
        device = trainer.strategy.root_device
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(number)
        random.seed(number)
        np.random.seed(number % 2**32)


def _step_counts(trainer: L.Trainer) -> dict[str, float]:
    """Return the counts on which the samples of each step of an epoch depend. Messages print the keys."""
    data = _lightning.data_module(trainer)
    return {
        **({"images per batch": data.batch_size} if isinstance(data, ImageDataModule) else {}),
        "processes": trainer.world_size,
        "batches per epoch": trainer.num_training_batches,
        "batches per step": trainer.accumulate_grad_batches,
    }


def _correct_progress(loop: dict[str, Any], validating: bool) -> None:
    """Change the progress of Lightning's loops so that a resumed run repeats no batch and skips none."""
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    validation = loop["epoch_loop.val_loop.batch_progress"]
    current = epochs["current"]
    if current["processed"] > current["completed"] or current["started"] == current["completed"]:
        _return_to_epoch_start(loop)
    elif not validating:
        for counts in (batches["total"], batches["current"]):
            counts["ready"] = counts["completed"]  # the next batch has not begun
        batches["is_last_batch"] = False
    started = int(validating)  # Lightning repeats a validation if a batch has started and none is completed
    for counts in (validation["total"], validation["current"]):
        counts.update(ready=started, started=started, processed=0, completed=0)
    validation["is_last_batch"] = False


def _return_to_epoch_start(loop: dict[str, Any]) -> None:
    """Set the progress to the start of the current epoch, or of the next one if all its batches are done."""
    batches = loop["epoch_loop.batch_progress"]
    for counts in (loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]):
        done = counts["processed"] + int(batches["is_last_batch"] and counts["started"] > counts["processed"])
        counts.update(ready=done, started=done, processed=done, completed=done)
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False
