"""How fast a run trains and how much memory it takes."""

import sys
import time
from typing import Any

import lightning as L
import torch
from torch.utils._pytree import tree_leaves

WARM_UP_STEPS = 3  # they allocate, choose algorithms, start workers


class Speed(L.Callback):
    """`images_per_second` over all processes, validation and the first steps left out, and `train_seconds`."""

    def __init__(self) -> None:
        self.train_seconds = 0.0
        self._images = self._steps = 0
        self._seconds = self._since = self._started = 0.0

    @property
    def images_per_second(self) -> float:
        return self._images / self._seconds if self._seconds else 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._steps += 1
        now = time.perf_counter()
        if self._steps > WARM_UP_STEPS:
            self._images += len(_first_tensor(batch)) * trainer.world_size
            self._seconds += now - self._since
        self._since = now

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._since = time.perf_counter()
        if trainer.logger and not trainer.sanity_checking:
            trainer.logger.log_metrics({"speed/images_per_second": self.images_per_second}, trainer.global_step)

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
