"""Settings of Lightning and torch: their ranges, checks before training, and what the libraries' errors mean.

The ranges of this library's own arguments are types, see `kit.ground.ranges`.
"""

import math
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from kit.data import ImageDataModule
from kit.ground._lightning import data_module
from kit.ground.errors import UserError, one_line
from kit.ground.ranges import NonNegativeFloat, NonNegativeInt, PositiveInt
from kit.ground.unexpected import KIT, is_owners, own_words

MIN_CPU_PROCESSES = 8  # processes on the CPU that are always allowed, such as in tests of distributed training
RESTORING = "checkpoint_connector.py"  # Lightning's code that restores a checkpoint
ERRORS = {  # part of an error's message, and what it means
    "not implemented for 'BFloat16'": "the net has an operation that this device cannot compute in bfloat16: "
    "--trainer.precision bf16-mixed",
    "not implemented for 'Half'": "the net has an operation that this device cannot compute in float16: "
    "--trainer.precision 16-mixed",
    "Can't pickle local object": "a process that is spawned cannot get this run's objects: --trainer.strategy ddp",
    "numpy accepts from": "seed_everything must be a whole number from 0 to 4294967295",
    "Expected more than 1 value per channel": "this net needs batches of at least 2 images to train: raise "
    "data.batch_size or, if there are too few training images, take another net (model.net)",
}


class Trainer(L.Trainer):
    """Lightning's trainer, with ranges of its numbers, and a run folder that does not depend on the loggers.

    folder: the run's folder.
    """

    folder: Path | None = None

    def __init__(
        self,
        *,
        accumulate_grad_batches: PositiveInt = 1,
        check_val_every_n_epoch: PositiveInt | None = 1,
        gradient_clip_val: NonNegativeFloat | None = None,
        log_every_n_steps: NonNegativeInt | None = None,
        num_nodes: PositiveInt = 1,
        reload_dataloaders_every_n_epochs: NonNegativeInt = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            accumulate_grad_batches=accumulate_grad_batches,
            check_val_every_n_epoch=check_val_every_n_epoch,
            gradient_clip_val=gradient_clip_val,
            log_every_n_steps=log_every_n_steps,
            num_nodes=num_nodes,
            reload_dataloaders_every_n_epochs=reload_dataloaders_every_n_epochs,
            **kwargs,
        )
        for mistake in _impossible_settings(self):
            raise UserError(mistake)

    @property
    def log_dir(self) -> str | None:
        """The first process's run folder. All processes must read this property at the same time."""
        return self.strategy.broadcast(str(self.folder)) if self.folder else super().log_dir


def _impossible_settings(trainer: L.Trainer) -> Iterator[str]:
    """Yield the settings that no data can satisfy."""
    amounts = {
        "max_epochs": trainer.max_epochs,
        "max_steps": trainer.max_steps,
        "limit_train_batches": trainer.limit_train_batches,
    }
    for key, amount in amounts.items():
        if amount == 0:
            yield f"trainer.{key} is 0, so nothing would be trained: give 1 or more, or leave it out"
    if trainer.val_check_interval == 0:
        yield "trainer.val_check_interval is 0, but must be above 0; --trainer.limit_val_batches 0 turns validation off"
    most = max(MIN_CPU_PROCESSES, os.cpu_count() or 1)
    if trainer.strategy.root_device.type == "cpu" and trainer.num_devices > most:
        yield f"trainer.devices is {trainer.num_devices}, but this machine has {os.cpu_count()} CPU cores"


class SettingsCheck(L.Callback):
    """Stop a run before its first step if a setting does not fit the data."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        data = data_module(trainer)
        if stage == "fit" and isinstance(data, ImageDataModule):
            for mistake in _unfit_settings(trainer, data):
                raise UserError(mistake if trainer.is_global_zero else "")


def _unfit_settings(trainer: L.Trainer, data: ImageDataModule) -> Iterator[str]:
    """Yield the settings that do not fit the number of batches."""
    batches = {"train": len(data.train_dataloader())}
    limits = {"train": trainer.limit_train_batches}
    if data.samples.get("val") is not None:
        batches["val"], limits["val"] = len(data.val_dataloader()), trainer.limit_val_batches
    if data.samples.get("test") is not None:
        batches["test"], limits["test"] = len(data.test_dataloader()), trainer.limit_test_batches
    for split, limit in limits.items():
        if isinstance(limit, float) and 0 < batches[split] * limit < 1:
            share = f"{limit} of the {batches[split]} batch(es) of {split}, which is less than one"
            yield f"trainer.limit_{split}_batches gives {share}: give a number of batches, such as 1"
    limit, interval = limits["train"], trainer.val_check_interval
    steps = math.floor(batches["train"] * limit) if isinstance(limit, float) else min(batches["train"], limit)
    if type(interval) is int and trainer.check_val_every_n_epoch is not None and interval > steps:
        yield (
            f"trainer.val_check_interval is {interval}, but an epoch has {steps} batch(es): give at most that; with "
            "--trainer.check_val_every_n_epoch null, the batches of the whole run count"
        )


def explain(error: Exception) -> str | None:
    """Return what the user can do about an error that a setting causes, or None for any other error."""
    words = own_words(error)
    for part, meaning in ERRORS.items():
        if part in words:
            return meaning
    if is_owners(error):
        return None
    if isinstance(error, MisconfigurationException):
        return one_line(error)
    if any(frame.f_code.co_filename.endswith(RESTORING) for frame, _ in traceback.walk_tb(error.__traceback__)):
        doing = "".join(f"{note}: " for note in getattr(error, "__notes__", []))  # only exceptions with notes have it
        return f"{doing}the checkpoint cannot be restored: {type(error).__name__}: {one_line(error)}"
    return _unfit_image_size(error)


def _unfit_image_size(error: Exception) -> str | None:
    """Return an explanation if a net of `kit.zoo` failed to compute its outputs, else None.

    Each library has its own words for images that are too small for a net, or not of its size.
    """
    if type(error) not in (RuntimeError, ValueError, AssertionError, IndexError):  # others are not about the size
        return None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if Path(frame.f_code.co_filename).is_relative_to(KIT / "zoo") and frame.f_code.co_name == "forward":
            height, width = frame.f_locals["images"].shape[-2:]
            advice = "change --data.image_size, or choose another net (model.net)"
            return f"the net fails for images of {height}x{width}: {one_line(error)}; {advice}"
    return None
