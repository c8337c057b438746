"""How fast a run trains and how much memory it takes."""

import sys
import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.profilers import PassThroughProfiler

from kit.ground._torch import tree_leaves

WARM_UP_STEPS = 3  # they allocate, choose algorithms, start workers
SECONDS_BETWEEN_POINTS = 30.0  # in long epochs


class Waiting(PassThroughProfiler):
    """How long training has waited for its batches: Lightning tells a profiler when it begins and ends to."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self._since = 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self.seconds += time.perf_counter() - self._since


class Speed(L.Callback):
    """`images_per_second` over all processes, validation and the first steps left out, and `train_seconds`.

    In the log, since the point before: `speed/images_per_second`; `speed/waiting_share`, of the training steps' time
    the share that was spent waiting for images; and `speed/peak_memory_gb` so far. Where the trainer has a profiler of
    the user's, it is not known how long was waited.
    """

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self._images = self._steps = 0
        self._seconds = self._waited = self._since = self._started = 0.0
        self._waiting, self._waits = Waiting(), True
        self._waiting_since = self._logged_at = 0.0
        self._logged = (0, 0.0, 0.0)  # images, seconds and waited, at the last point

    @property
    def images_per_second(self) -> float:
        return self._images / self._seconds if self._seconds else 0.0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        profiled: Any = trainer
        self._waits = type(profiled.profiler) in (PassThroughProfiler, Waiting)
        if self._waits:
            profiled.profiler = self._waiting

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = self._logged_at = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since, self._waiting_since = time.perf_counter(), self._waiting.seconds

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        now = time.perf_counter()
        if self._steps > WARM_UP_STEPS:
            self._images += len(_first_tensor(batch)) * trainer.world_size
            self._seconds += now - self._since
            self._waited += self._waiting.seconds - self._waiting_since
        self._since, self._waiting_since = now, self._waiting.seconds
        if now - self._logged_at > SECONDS_BETWEEN_POINTS:
            self._log(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since, self._waiting_since = time.perf_counter(), self._waiting.seconds
        if not trainer.sanity_checking:
            self._log(trainer)

    def _log(self, trainer: L.Trainer) -> None:
        before, self._logged = self._logged, (self._images, self._seconds, self._waited)
        images, seconds, waited = (now - then for now, then in zip(self._logged, before, strict=True))
        self._logged_at = time.perf_counter()
        if trainer.loggers and seconds:
            values = {"images_per_second": images / seconds}
            if self._waits:
                values["waiting_share"] = waited / seconds
            values["peak_memory_gb"] = peak_memory_bytes(trainer.strategy.root_device) / 1e9
            for logger in trainer.loggers:
                logger.log_metrics({f"speed/{key}": v for key, v in values.items()}, trainer.global_step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.train_seconds += time.perf_counter() - self._started

    def figures(self, trainer: L.Trainer) -> dict[str, float]:
        """For results.json."""
        return {
            "train_seconds": round(self.train_seconds, 2),
            "images_per_second": round(self.images_per_second, 1),
            "peak_memory_bytes": peak_memory_bytes(trainer.strategy.root_device),
        }


def peak_memory_bytes(device: torch.device) -> int:
    """Of the GPU's memory, on a GPU; otherwise of this process and of the largest of its workers."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    own, workers = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + workers) * unit


def _first_tensor(batch: Any) -> torch.Tensor:
    return next(leaf for leaf in tree_leaves(batch) if isinstance(leaf, torch.Tensor))
