"""Measure how fast a run trains and how much memory it takes."""

import sys
import time
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.profilers import PassThroughProfiler

from kit.ground._torch import tree_leaves

WARM_UP_STEPS = 3  # not measured, since they allocate memory, choose algorithms and start workers
SECONDS_BETWEEN_POINTS = 30.0  # in a long epoch


class WaitingTime(PassThroughProfiler):
    """Measure the seconds that training waits for its batches, between two calls that Lightning makes of a profiler."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = self._since = 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self.seconds += time.perf_counter() - self._since


class Speed(L.Callback):
    """Measure `images_per_second` of all processes, without validations and the first steps, and `train_seconds`.

    After each validation, and every 30 seconds in a long epoch, it logs what it measured since the last point:
    `speed/images_per_second`, and `speed/waiting_share`, the share of that time that training waited for images. The
    latter is not known if the trainer has a profiler of the user's. `speed/peak_memory_gb` is the maximum so far.
    """

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self._waiting = WaitingTime()
        self._steps = 0
        self._total = self._logged = np.zeros(3)  # images, seconds, seconds of waiting
        self._since = self._started = self._logged_at = 0.0

    @property
    def images_per_second(self) -> float:
        images, seconds, _ = self._total.tolist()
        return images / seconds if seconds else 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if type(trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]
            trainer.profiler = self._waiting  # type: ignore[attr-defined]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = self._logged_at = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since, self._waiting.seconds = time.perf_counter(), 0.0

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        now = time.perf_counter()
        if self._steps > WARM_UP_STEPS:
            images = len(_first_tensor(batch)) * trainer.world_size
            self._total = self._total + np.array([images, now - self._since, self._waiting.seconds])
        self._since, self._waiting.seconds = now, 0.0
        if now - self._logged_at > SECONDS_BETWEEN_POINTS:
            self._log(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.on_train_epoch_start(trainer, pl_module)  # a validation may stand within an epoch
        if not trainer.sanity_checking:
            self._log(trainer)

    def _log(self, trainer: L.Trainer) -> None:
        images, seconds, waited = (self._total - self._logged).tolist()
        self._logged, self._logged_at = self._total, time.perf_counter()
        for logger in trainer.loggers if seconds else ():
            values = {
                "speed/images_per_second": images / seconds,
                "speed/peak_memory_gb": peak_memory_bytes(trainer.strategy.root_device) / 1e9,
                **({"speed/waiting_share": waited / seconds} if waited else {}),
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


def _first_tensor(batch: Any) -> torch.Tensor:
    return next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))
