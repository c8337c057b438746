"""Check the trainer's settings and the net before training, and explain errors of Lightning and torch about settings.

The ranges of this library's own arguments are types, see `kit.ground.ranges`.
"""

import os
import re
import traceback
from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from kit.ground.errors import UserError, one_line
from kit.ground.unexpected import is_from_user_code, message_of, message_prefix

# A machine has up to 8 GPUs. On a CPU, at most one process per core is useful.
MAX_PROCESSES = max(8, os.cpu_count() or 1)
NUMBERS = re.compile(r"auto|-?\d+(,\s*\d+)*,?")
NO_GPU = "but PyTorch finds no GPU here: leave out --config configs/trainer/gpu.yaml, or add --trainer.accelerator auto"
NO_VALIDATION = "but must be above 0; to train without validation, give --trainer.limit_val_batches 0"
NO_TRAINING = "with which nothing would be trained: give more than 0, or leave it out"
CHECKS: tuple[tuple[str, Callable[[Any], bool], str], ...] = (  # a trainer's key, whether its value is wrong, and why
    ("accelerator", lambda name: name in ("gpu", "cuda") and not torch.accelerator.is_available(), NO_GPU),
    ("accumulate_grad_batches", lambda number: number < 1, "but must be at least 1"),
    ("check_val_every_n_epoch", lambda number: number < 1, "but must be at least 1"),
    ("devices", lambda number: str(number).isdigit() and int(number) > MAX_PROCESSES, "but this machine has fewer"),
    ("devices", lambda value: isinstance(value, str) and not NUMBERS.fullmatch(value), "but must be numbers or auto"),
    ("gradient_clip_val", lambda norm: norm < 0, "but must be at least 0"),
    ("limit_train_batches", lambda amount: amount == 0, NO_TRAINING),
    ("max_epochs", lambda number: number == 0, NO_TRAINING),
    ("max_steps", lambda number: number == 0, NO_TRAINING),
    ("val_check_interval", lambda amount: amount == 0, NO_VALIDATION),
)
# Maps the module of a task's `Predictions` to the kind of net that the task needs. The name of a module of `kit.zoo`
# ends with the kind of its nets: `kit.zoo.timm_detection`.
NETS = {
    "kit.labels.predictions": "classification",
    "kit.boxes.predictions": "detection",
    "kit.masks.predictions": "segmentation",
}
# The file of Lightning's code that restores and saves checkpoints, and the beginnings of the functions that restore.
CHECKPOINT_FILE, RESTORING = "checkpoint_connector.py", ("restore", "_restore", "resume")
TOO_SMALL = "the images are too small for this net: raise data.image_size, or take another net (model.net)"
# A part of an error's message, and the line to print instead of the message, or "" to print the message itself.
ERRORS = {
    "`val_check_interval`": "",
    "Early stopping conditioned on metric": "",
    "numpy accepts from": "seed_everything must be a whole number from 0 to 4294967295",
    "Can't pickle local object": "spawned processes cannot get this run's objects: use --trainer.strategy ddp",
    "Expected more than 1 value per channel": "this net needs batches of at least 2 images to train: raise "
    "data.batch_size or, if there are too few training images, take another net (model.net)",
    "Output size is too small": TOO_SMALL,
    "Kernel size can't be greater than actual input size": TOO_SMALL,
    "Required crop size": "data.augment cuts out parts that are larger than the images (data.image_size): RandomShift "
    "and RandomZoomIn of kit.data crop without changing an image's size",
    "permitted channel values are 1 or 3": "a transform of data.augment takes only images with 1 or 3 channels: remove "
    "it, or set data.channels to 3",
    "not implemented for 'BFloat16'": "the net cannot be computed in bfloat16 here: use --trainer.precision bf16-mixed "
    "instead of bf16-true, or 32-true (--auto_precision false) instead of bf16-mixed",
    "not implemented for 'Half'": "the net cannot be computed in float16 here: use --trainer.precision 16-mixed",
}


def check_settings(settings: Namespace) -> None:
    """Raise `UserError` if a setting of the trainer cannot work, whatever the data."""
    for key, is_wrong, why in CHECKS:
        value = settings.get(key)
        if value is not None and is_wrong(value):
            raise UserError(f"trainer.{key} is {value}, {why}")


def check_net(model: L.LightningModule, precision: str) -> None:
    """Raise `UserError` if a net of `kit.zoo` or the run's precision does not suit the model's `Predictions`."""
    net, predictions = type(getattr(model, "net", None)), getattr(model, "Predictions", None)
    kind = re.split(r"[._]", net.__module__)[-1]  # such as `detection` for `kit.zoo.timm_detection`
    needed = NETS.get(getattr(predictions, "__module__", ""))
    if needed and net.__module__.startswith("kit.zoo.") and kind != needed:
        why = f"{net.__name__} is a net for {kind}, but {type(model).__name__} needs one for {needed}"
        raise UserError(f"{why}; give another one with --model.net CLASS")
    if needed == "detection" and precision in ("bf16-true", "16-true"):  # Lightning also converts the annotated boxes
        raise UserError(f"trainer.precision {precision} rounds the coordinates of boxes: use bf16-mixed or 32-true")


def explain(error: Exception) -> str | None:
    """Return what the user can do about an error that a setting or a checkpoint causes, or None for any other error."""
    message = message_of(error)
    for part, line in ERRORS.items():
        if part in message:
            return line or one_line(error)
    if is_from_user_code(error):
        return None
    if isinstance(error, MisconfigurationException):
        return one_line(error)
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    if any(code.co_filename.endswith(CHECKPOINT_FILE) and code.co_name.startswith(RESTORING) for code in codes):
        return f"{message_prefix(error)}the checkpoint cannot be restored: {type(error).__name__}: {one_line(error)}"
    return None
