"""Runs that are killed and go on as if they had not been."""

import os
import random
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from kit.data import ImageDataModule
from kit.ground import app
from kit.ground._lightning import finish_restart, is_accumulating, restart_loader, restore_metrics
from kit.ground.errors import Stopped
from kit.safeguards.checkpoints import Checkpoint
from kit.safeguards.resume.schedules import Renewal
from kit.safeguards.resume.signals import Agreement, Signals
from kit.safeguards.resume.writing import LAST, Writer

KEY = "exact_resume"  # of what this callback keeps in a checkpoint


class ExactResume(L.Callback):
    """`RUN/checkpoints/last.ckpt` (`previous.ckpt`: the one before it), from which a run goes on bit for bit.

    It is written where nothing is half done: between two steps, before a validation (which is then run whole), and
    between two epochs. All random numbers of a step are a function of seed, process, epoch and batch, like those of
    its images. It must be the first callback, so that the others have done nothing for the step to come.

    What is added up over an epoch of training (`self.log(..., on_epoch=True)` in `training_step`, torchmetrics that
    are kept from step to step) is not in a checkpoint: in an epoch that was resumed, those figures are of its rest.
    Random numbers that are drawn while a batch is brought to the device (`on_after_batch_transfer`) are not a step's:
    the first batch after a resume may get others. Ours draw none there.

    Args:
        enabled: without it there is no `last.ckpt`, and a signal ends a run where it stands.
        every_minutes: in a long epoch, written as often; and before each validation, or after each epoch without one.
    """

    def __init__(self, enabled: bool = True, every_minutes: float = 10.0) -> None:
        self.enabled, self.every_seconds = enabled, 60 * every_minutes
        self.changed = False  # the config, and the user wants it: what optimizer and schedule were set to gives way
        self.writer, self.signals = Writer(), Signals()
        self._resumed: dict[str, Any] = {}
        self._saved_at, self._saved_step, self._validated = 0.0, -1, False
        self._planned = 0.0  # optimizer steps of the whole run; 0 before the training starts

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.enabled = self.enabled and not getattr(trainer, "fast_dev_run", False)
        self._speaks = trainer.is_global_zero
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # where Lightning's seed_everything puts it
        if stage != TrainerFn.FITTING:
            return
        self.folder = Path(trainer.log_dir or trainer.default_root_dir)
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = _folder_of(callback, self.folder / "checkpoints")
        if self.enabled:
            trainer.strategy.checkpoint_io = self.writer

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn != TrainerFn.FITTING or KEY not in checkpoint:
            return
        self._resumed = checkpoint[KEY]
        before = self._resumed["processes"]
        if before != trainer.world_size:
            _to_an_epochs_start(checkpoint["loops"]["fit_loop"])
            rank_zero_only(print)(
                f"{before} processes before, {trainer.world_size} now: batches differ from here on, and an epoch that "
                "was under way begins again; the result is not that of an undisturbed run"
            )

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._resumed:
            self._renewal = Renewal(trainer)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._planned = float(trainer.estimated_stepping_batches)
        if self._resumed:
            self._go_on(trainer, pl_module)
        self._resumed = {}
        if self.enabled:
            self._agreement = Agreement(trainer.world_size)
            self.signals.listen(trainer)
            self._saved_at = time.monotonic()

    def _go_on(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What Lightning leaves to be restored."""
        loop = trainer.fit_loop
        self._saved_step = trainer.global_step
        if self._planned != self._resumed["planned"] or self.changed:
            other_processes = self._resumed["processes"] != trainer.world_size
            self._renewal.apply(trainer, with_optimizer=self.changed, by_epochs=other_processes)
            if any(config.interval == "step" for config in trainer.lr_scheduler_configs):
                rank_zero_only(print)(f"the schedule is made anew, for {self._planned:,.0f} steps in all")
        restore_metrics(trainer, self._resumed["metrics"])
        finish_restart(trainer)
        progress: Any = loop.epoch_progress.current
        if progress.started > progress.completed:  # Lightning leaves the hook out, which may set what is trained
            self._seed(trainer, 0)
            pl_module.on_train_epoch_start()
            if loop.epoch_loop.batch_progress.current.completed and not isinstance(
                getattr(trainer, "datamodule", None), ImageDataModule
            ):
                rank_zero_only(print)(
                    "warning: the loader is not of an ImageDataModule: the rest of this epoch gets the batches of its "
                    "beginning"
                )
        else:
            loop.epoch_loop.restarting = False  # an epoch from its first batch
        restart_loader(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.enabled:
            _, idle, stop = self._ask(trainer)
            new = trainer.global_step > max(0, self._saved_step)  # in an epoch that was not validated
            if stop or (idle and new):
                self._save(trainer)
            if stop:
                raise self.stopped()
            self._seed(trainer, 0)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if not self.enabled:
            return
        due, idle, stop = self._ask(trainer)
        # Not within a sum of gradients; and not after a validation, of which Lightning would not know that it was.
        possible = batch_idx and batch_idx % trainer.accumulate_grad_batches == 0 and not self._validated
        self._validated = False
        if ((due and idle) or stop) and possible:
            self._save(trainer)
            if stop:
                raise self.stopped()
        self._seed(trainer, 1 + batch_idx)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.enabled or trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        stop = self._ask(trainer)[-1]
        if not is_accumulating(trainer):
            self._save(trainer)
        self._validated = True
        if stop:
            raise self.stopped()
        self._seed(trainer, -trainer.global_step)

    def on_validation_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        if self.enabled and self.signals.received is not None and trainer.state.fn == TrainerFn.FITTING:
            raise self.stopped()  # what is needed to go on was saved before the first batch

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self.enabled:
            return
        if trainer.global_step > max(0, self._saved_step):
            self._save(trainer)
        self.writer.teardown()
        trainer.strategy.barrier()  # all processes are going to read the best checkpoint, which one has written
        if any(self._ask(trainer)[-1] for _ in range(2)):  # the second answers the first; the test is left to do
            raise self.stopped()

    def _ask(self, trainer: L.Trainer) -> list[bool]:
        """Whether a checkpoint is due, whether the writer has nothing to do, and whether the run is to stop."""
        due = trainer.is_global_zero and time.monotonic() - self._saved_at >= self.every_seconds
        idle = trainer.is_global_zero and not self.writer.busy
        return self._agreement(due, idle, self.signals.received is not None)

    def stopped(self) -> Stopped:
        """The end of a run that was told to stop.

        One process speaks and has the exit code: Lightning kills all when one that it started ends with other than 0.
        """
        if not self._speaks:
            return Stopped("", 0)
        return self.signals.stopped(f"{app.command('fit')} --resume {self.folder}")

    def _save(self, trainer: L.Trainer) -> None:
        trainer.save_checkpoint(self.folder / "checkpoints" / LAST)
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if not self.enabled or trainer.state.fn != TrainerFn.FITTING or not self._planned:
            return
        _settle(checkpoint["loops"]["fit_loop"], validating=trainer.validating)
        metrics = {key: value.detach().cpu() for key, value in trainer.callback_metrics.items()}
        checkpoint[KEY] = {
            "processes": trainer.world_size,
            "planned": self._planned,
            "metrics": metrics,
            "log": _log_sizes(trainer, self.folder) if trainer.is_global_zero else {},
        }

    def _seed(self, trainer: L.Trainer, what: int) -> None:
        """Args: what: 0 the start of an epoch, n its batch n, -n the validation after step n of the run."""
        key = (self.seed, trainer.global_rank, trainer.current_epoch, abs(what), int(what < 0))
        number = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
        torch.default_generator.manual_seed(number)  # torch.manual_seed, which sets all devices, takes 0.1 ms
        device = trainer.strategy.root_device
        if device.type != "cpu":
            torch.get_device_module(device).manual_seed(number)
        random.seed(number)
        np.random.seed(number % 2**32)


def _folder_of(callback: ModelCheckpoint, checkpoints: Path) -> str:
    """Return the folder of a callback that was given no `dirpath`.

    Lightning's default would depend on the first logger. The user's callbacks get a folder of their own, where neither
    `save_last` nor `filename: best` can overwrite the run's own files. Its path is absolute, since a callback drops its
    state if the path differs when the run is resumed.
    """
    return str(checkpoints if isinstance(callback, Checkpoint) else checkpoints.absolute() / type(callback).__name__)


def _settle(loop: dict[str, Any], validating: bool) -> None:
    """Progress as Lightning's loops understand it when they begin again: nothing is half done."""
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    validation = loop["epoch_loop.val_loop.batch_progress"]
    current = epochs["current"]
    if current["processed"] > current["completed"] or current["started"] == current["completed"]:
        _to_an_epochs_start(loop)
    elif not validating:
        for counts in (batches["total"], batches["current"]):
            counts["ready"] = counts["completed"]  # the batch that is here has not begun
        batches["is_last_batch"] = False
    begun = int(validating)  # Lightning then runs the validation whole
    for counts in (validation["total"], validation["current"]):
        counts.update(ready=begun, started=begun, processed=0, completed=0)
    validation["is_last_batch"] = False


def _to_an_epochs_start(loop: dict[str, Any]) -> None:
    """The next epoch's, where all batches were trained on; else of the one that was under way."""
    batches = loop["epoch_loop.batch_progress"]
    for counts in (loop["epoch_progress"]["total"], loop["epoch_progress"]["current"]):
        done = counts["processed"] + int(batches["is_last_batch"] and counts["started"] > counts["processed"])
        counts.update(ready=done, started=done, processed=done, completed=done)
    batches["current"] = dict.fromkeys(batches["current"], 0)
    batches["is_last_batch"] = False


def _log_sizes(trainer: L.Trainer, folder: Path) -> dict[str, int]:
    """Return the sizes of TensorBoard's files in the run's folder, in bytes.

    What is written later belongs to steps that a resumed run does again.
    """
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            logger.save()
    return {str(file.relative_to(folder)): file.stat().st_size for file in log_files(folder)}


def log_files(folder: Path) -> list[Path]:
    """Return TensorBoard's files in a run's folder."""
    return [file for file in folder.rglob("*tfevents*") if file.is_file()]
