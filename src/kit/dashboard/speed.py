"""Measure the speed and the memory of a run, and estimate the time that is left."""

import math
import sys
import time
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Timer

from kit.ground._torch import tree_leaves

# The first steps allocate memory, choose algorithms and start workers. The speed of a longer run leaves them out.
WARM_UP_STEPS = 3


class Speed(L.Callback):
    """Measure `train_seconds`, the duration of the training with its validations, and `images_per_second`.

    The seconds of a resumed run include those up to the checkpoint. `images_per_second` is the sum over all processes
    since the resume. It excludes validations and the first steps.

    After each validation, log three values. `speed/images_per_second` and `speed/waiting_share` (the share of the time
    that training waited for images) are measured since the previous validation, `speed/peak_memory_gb` since the start.
    """

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self._batches = self._first_step = self._validations = 0
        # The seconds between batches in total, which are mostly validations, and up to the end of the first validation.
        self._pauses = self._first_pause = 0.0
        # The sums of images, seconds, and seconds of waiting: for the warm-up steps, in total, and at the last log.
        self._warm_up = self._total = self._logged = np.zeros(3)
        self._train_start = self._step_start = self._step_wait = 0.0  # seconds

    def state_dict(self) -> dict[str, Any]:
        running_seconds = time.perf_counter() - self._train_start if self._train_start else 0.0
        return {"train_seconds": self.train_seconds + running_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if not self.train_seconds:  # the test after training loads the best checkpoint, which is older
            self.train_seconds = float(state_dict["train_seconds"])

    @property
    def images_per_second(self) -> float:
        images, seconds, _ = (self._total - self._warm_up).tolist()
        return images / seconds if seconds else 0.0

    def seconds_left(self, trainer: L.Trainer) -> float:
        """Return an estimate of the seconds until the end of the training, or infinity if it is unknown."""
        total = self._total - self._warm_up if self._batches > WARM_UP_STEPS else self._total
        timers = (callback for callback in trainer.callbacks if isinstance(callback, Timer))  # type: ignore[attr-defined]
        limits = [seconds for timer in timers if (seconds := timer.time_remaining()) is not None]
        limit = max(0.0, min(limits, default=math.inf))
        if not self._batches:
            return limit
        batch_seconds = total[1] / (self._batches - WARM_UP_STEPS * (self._batches > WARM_UP_STEPS))
        if self._validations > 1:  # the first one is slow
            pause = (self._pauses - self._first_pause) / (self._validations - 1)
        elif self._validations:
            pause = self._pauses
        else:  # `Overfitting` scores as many training images; a forward pass takes a third of a step
            pause = 2 / 3 * batch_seconds * _validation_images(trainer) * self._batches / max(1, self._total[0])
        batches, validations = work_left(trainer, self._batches, trainer.global_step - self._first_step)
        return min(limit, batches * batch_seconds + validations * pause) if math.isfinite(batches) else limit

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._train_start, self._first_step = time.perf_counter(), trainer.global_step

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end_pause()

    def _end_pause(self) -> None:
        """Begin to measure the next batch, and count the time since the last batch as time of a validation."""
        now = time.perf_counter()
        self._pauses += now - self._step_start if self._batches else 0
        self._step_start = now

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self._step_wait = time.perf_counter() - self._step_start

    def on_train_batch_end(self, trainer: L.Trainer, _: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._batches == WARM_UP_STEPS:
            self._warm_up = self._logged = self._total
        self._batches += 1
        now = time.perf_counter()
        tensors = (leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))
        images = next((len(tensor) for tensor in tensors if tensor.ndim), 1)
        self._total = self._total + np.array([images * trainer.world_size, now - self._step_start, self._step_wait])
        self._step_start = now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end_pause()
        self._validations += bool(self._batches)
        if self._validations == 1:
            self._first_pause = self._pauses
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
        self._train_start = 0.0

    def run_values(self, trainer: L.Trainer) -> dict[str, float]:
        """Return the values of the run for `results.json`: see `kit.dashboard.report.report`."""
        return {
            "train_seconds": round(self.train_seconds, 2),
            "images_per_second": round(self.images_per_second, 3),
            "peak_memory_bytes": peak_memory_bytes(trainer.strategy.root_device),
        }


def work_left(trainer: L.Trainer, batches_done: int, steps_done: int) -> tuple[float, float]:
    """Return the numbers of batches and of validations until the end of the training; infinity if they are unknown.

    Args:
        trainer: the trainer, while it trains or validates.
        batches_done, steps_done: the numbers of batches and optimizer steps since training began or was resumed.
    """
    loop, batches = trainer.fit_loop.epoch_loop, math.inf
    if trainer.max_epochs not in (None, -1):
        batches = (trainer.max_epochs - trainer.current_epoch) * trainer.num_training_batches
        batches -= loop.batch_progress.current.completed
    if trainer.max_steps > 0:
        batches_per_step = batches_done / steps_done if steps_done else trainer.accumulate_grad_batches
        batches = min(batches, (trainer.max_steps - trainer.global_step) * batches_per_step)
    if not math.isfinite(batches):
        return math.inf, math.inf
    batches = max(0, batches)
    interval = (trainer.val_check_batch or math.inf) * (trainer.check_val_every_n_epoch or 1)  # in batches
    validations = float(math.ceil(round(batches / interval, 6)) if trainer.enable_validation else 0)
    if trainer.validating and (total := sum(trainer.num_val_batches)):
        validations += 1 - loop.val_loop.batch_progress.current.completed / total
    return batches, validations


def _validation_images(trainer: L.Trainer) -> float:
    """Return the number of images in a validation."""
    loader = next(iter(tree_leaves(trainer.val_dataloaders)), None)
    batch_size = getattr(getattr(loader, "batch_sampler", None), "batch_size", None) or 1
    return sum(trainer.num_val_batches) * batch_size * trainer.world_size


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


def speed_text(images_per_second: float) -> str:
    """Return a speed as a whole number or, below 10, with two significant digits: 4,512, 4.5, 0.45."""
    return f"{images_per_second:,.0f}" if images_per_second >= 10 else f"{images_per_second:.2g}"
