"""Measure the speed and the memory of a run, and show its progress, as a bar on a terminal and as lines elsewhere."""

import math
import sys
import time
from datetime import timedelta
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from kit.ground._torch import tree_leaves
from kit.safeguards.checkpoints import monitored_metrics

WARM_UP_STEPS = 3  # not measured in longer runs, since they allocate memory, choose algorithms and start workers
SECONDS_BETWEEN_LINES = 10.0


class Speed(L.Callback):
    """Measure `train_seconds`, the duration of the training with its validations, and `images_per_second`.

    `images_per_second` is the sum over all processes. It excludes validations and the first steps.

    After each validation, log `speed/images_per_second` and `speed/waiting_share` (the share of the time that training
    waited for images) since the validation before, and the run's `speed/peak_memory_gb`.
    """

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self._steps = self._first_epoch = 0
        self._warm_up = self._total = self._logged = np.zeros(3)  # images, seconds, seconds of waiting
        self._train_start = self._step_start = self._step_wait = 0.0  # seconds

    @property
    def images_per_second(self) -> float:
        images, seconds, _ = (self._total - self._warm_up).tolist()
        return images / seconds if seconds else 0.0

    def seconds_left(self, trainer: L.Trainer) -> float:
        """Return an estimate of the seconds until all epochs are done.

        It is infinity before the first step is done, if the number of epochs is not limited, or if `max_steps` is.
        """
        if not trainer.max_epochs or trainer.max_epochs < 0 or trainer.max_steps != -1 or not self._steps:
            return math.inf
        steps = (trainer.max_epochs - self._first_epoch) * trainer.num_training_batches
        return (time.perf_counter() - self._train_start) * max(0, steps / self._steps - 1)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._train_start, self._first_epoch = time.perf_counter(), trainer.current_epoch

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._step_start = time.perf_counter()

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self._step_wait = time.perf_counter() - self._step_start

    def on_train_batch_end(self, trainer: L.Trainer, _: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._steps == WARM_UP_STEPS:
            self._warm_up = self._logged = self._total
        self._steps += 1
        now = time.perf_counter()
        first = next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))
        images = len(first) * trainer.world_size
        self._total = self._total + np.array([images, now - self._step_start, self._step_wait])
        self._step_start = now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._step_start = time.perf_counter()
        images, seconds, waited = (self._total - self._logged).tolist()
        self._logged = self._total
        for logger in trainer.loggers if seconds else ():
            values = {
                "speed/images_per_second": images / seconds,
                "speed/waiting_share": waited / seconds,
                "speed/peak_memory_gb": peak_memory_bytes(trainer.strategy.root_device) / 1e9,
            }
            logger.log_metrics(values, trainer.global_step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.train_seconds += time.perf_counter() - self._train_start

    def figures(self, trainer: L.Trainer) -> dict[str, float]:
        """Return the figures for `results.json`."""
        return {
            "train_seconds": round(self.train_seconds, 2),
            "images_per_second": round(self.images_per_second, 3),
            "peak_memory_bytes": peak_memory_bytes(trainer.strategy.root_device),
        }


def peak_memory_bytes(device: torch.device) -> int:
    """Return the peak memory so far: of tensors on a GPU, or of this process and its largest worker."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Bar(TQDMProgressBar):
    """Lightning's progress bar, with the training loss, the monitored metrics and the images per second.

    Above the bar, it prints a line for each epoch: see `_line`.
    """

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=10)
        self.speed = speed
        self._has_validated = False  # whether there was a validation in this epoch

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return _metrics(trainer, self.speed, "train/loss", *monitored_metrics(trainer, pl_module))

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        super().on_train_epoch_start(trainer)
        self.train_progress_bar.set_description(_epoch(trainer))
        self.train_progress_bar.leave = False  # at the end, remove the bar below the line of the last epoch
        self._has_validated = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        self._has_validated = True

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        # Without a validation in this epoch, the metrics are those of an earlier epoch, and would look new.
        keys = monitored_metrics(trainer, pl_module) if self._has_validated else ()
        self.print(_line(trainer, self.speed, "train/loss", *keys))


class Lines(L.Callback):
    """Print lines to logs and pipes: see `_line`.

    A line is printed after a validation if the last line is more than 10 seconds old, after the validation of the last
    epoch, and every 30 seconds in a long epoch.
    """

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._printed_at = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if time.monotonic() - self._printed_at > 3 * SECONDS_BETWEEN_LINES:  # in a long epoch
            self._print(trainer, "train/loss")  # the metrics of an earlier validation would look new

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if is_last or time.monotonic() - self._printed_at > SECONDS_BETWEEN_LINES:
            self._print(trainer, "train/loss", *monitored_metrics(trainer, pl_module))

    def _print(self, trainer: L.Trainer, *keys: str) -> None:
        self._printed_at = time.monotonic()
        if trainer.is_global_zero:
            print(_line(trainer, self.speed, *keys), flush=True)


def _line(trainer: L.Trainer, speed: Speed, *keys: str) -> str:
    """Return a line: `epoch 3/10 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4,512 left 0:01:12`."""
    metrics = " ".join(f"{key} {value}" for key, value in _metrics(trainer, speed, *keys).items())
    seconds = speed.seconds_left(trainer)
    left = f" left {timedelta(seconds=round(seconds))}" if 0 < seconds < math.inf else ""
    return f"{_epoch(trainer)} step {trainer.global_step} {metrics}{left}"


def _epoch(trainer: L.Trainer) -> str:
    """Return a text such as `epoch 3/10`, or `epoch 3` if the number of epochs is not limited."""
    return f"epoch {trainer.current_epoch + 1}" + ("" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}")


def _metrics(trainer: L.Trainer, speed: Speed, *keys: str) -> dict[str, str]:
    logged = trainer.callback_metrics
    metrics = {key: f"{float(logged[key]):.4f}" for key in keys if key in logged}
    return {**metrics, "images/s": speed_text(speed.images_per_second)}


def speed_text(images_per_second: float) -> str:
    """Return a speed as a whole number or, below 10, with two significant digits: 4,512, 4.5, 0.45."""
    return f"{images_per_second:,.0f}" if images_per_second >= 10 else f"{images_per_second:.2g}"
