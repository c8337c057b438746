"""Measure the speed and the memory of a run, and show its progress: as a bar on a terminal, or as lines elsewhere."""

import sys
import time
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import TQDMProgressBar

from kit.ground._torch import tree_leaves
from kit.safeguards.checkpoints import monitored_metrics

WARM_UP_STEPS = 3  # not measured, since they allocate memory, choose algorithms and start workers
SECONDS_BETWEEN_LINES = 10.0


class Speed(L.Callback):
    """Measure `images_per_second` of all processes, without validations and the first steps, and `train_seconds`.

    After each validation it logs what it measured since the one before: `speed/images_per_second`, and
    `speed/waiting_share`, the share of that time that training waited for images. `speed/peak_memory_gb` is the maximum
    so far.
    """

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self._steps = 0
        self._total = self._logged = np.zeros(3)  # images, seconds, seconds of waiting
        self._started = self._since = self._waited = 0.0

    @property
    def images_per_second(self) -> float:
        images, seconds, _ = self._total.tolist()
        return images / seconds if seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_start(self, *args: Any, **kwargs: Any) -> None:
        self._waited = time.perf_counter() - self._since

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        now = time.perf_counter()
        if self._steps > WARM_UP_STEPS:
            first = next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))
            images = len(first) * trainer.world_size
            self._total = self._total + np.array([images, now - self._since, self._waited])
        self._since = now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()
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
        self.train_seconds += time.perf_counter() - self._started

    def figures(self, trainer: L.Trainer) -> dict[str, float]:
        """Return the figures for `results.json`."""
        return {
            "train_seconds": round(self.train_seconds, 2),
            "images_per_second": round(self.images_per_second, 1),
            "peak_memory_bytes": peak_memory_bytes(trainer.strategy.root_device),
        }


def peak_memory_bytes(device: torch.device) -> int:
    """Return the largest memory in use so far: on a GPU that of tensors, else that of this process and a worker."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Bar(TQDMProgressBar):
    """Lightning's progress bar, with the metrics that judge the run and the images per second."""

    def __init__(self, speed: Speed) -> None:
        super().__init__(refresh_rate=10)
        self.speed = speed

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        return _metrics(trainer, self.speed, "train/loss", *monitored_metrics(trainer, pl_module))


class Lines(L.Callback):
    """Print lines for logs and pipes: `epoch 3/10 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4512`."""

    def __init__(self, speed: Speed) -> None:
        self.speed = speed
        self._printed_at = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        if time.monotonic() - self._printed_at > 3 * SECONDS_BETWEEN_LINES:  # in a long epoch
            self._print(trainer, "train/loss")  # the metrics of the last validation would look new

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        is_last = trainer.current_epoch + 1 == trainer.max_epochs
        if is_last or time.monotonic() - self._printed_at > SECONDS_BETWEEN_LINES:
            self._print(trainer, "train/loss", *monitored_metrics(trainer, pl_module))

    def _print(self, trainer: L.Trainer, *keys: str) -> None:
        self._printed_at = time.monotonic()
        if trainer.is_global_zero:
            epochs = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
            metrics = " ".join(f"{key} {value}" for key, value in _metrics(trainer, self.speed, *keys).items())
            print(f"epoch {trainer.current_epoch + 1}{epochs} step {trainer.global_step} {metrics}", flush=True)


def _metrics(trainer: L.Trainer, speed: Speed, *keys: str) -> dict[str, str]:
    logged = trainer.callback_metrics
    metrics = {key: f"{float(logged[key]):.4f}" for key in keys if key in logged}
    return {**metrics, "images/s": f"{speed.images_per_second:.0f}"}
