"""Predict how much memory a training step will take."""

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from kit.data import ImageDataModule, Samples
from kit.data.loading import Split
from kit.data.samples import Files
from kit.ground.errors import BrokenFiles
from kit.ground.faults import Fault, fault

COPIES = 4  # weights, gradients, and an optimizer's two moments (Adam)


class Memory(NamedTuple):
    """Bytes of memory.

    step: what a training step takes at the run's batch size.
    available: the memory of the GPU or the machine; 0 if unknown.
    """

    step: int
    available: int
    device: str

    def __str__(self) -> str:
        share = f" of the {self.device}'s {_gb(self.available)}" if self.available else ""
        return f"a training step will take about {_gb(self.step)}{share}"


def predict_memory(model: L.LightningModule, datamodule: ImageDataModule, precision: str) -> Memory:
    """Predict the memory from two training steps on the CPU, with two and with four samples.

    Raises:
        Exception: any exception of the model.
    """
    samples = _decodable(datamodule.splits()["train"], 4)
    small, large = (_saved_bytes(model, _batch(datamodule, samples, size), precision) for size in (2, 4))
    per_sample = max(0, large - small) / 2
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    step = COPIES * weights + max(0.0, small - 2 * per_sample) + per_sample * datamodule.batch_size
    if torch.cuda.is_available():
        return Memory(round(step), torch.cuda.get_device_properties(0).total_memory, "GPU")
    return Memory(round(step), machine_memory(), "machine")


def memory_faults(memory: Memory, batch_size: int) -> list[Fault]:
    """Return a fault if a training step takes more memory than there is."""
    if memory.step <= memory.available or not memory.available:
        return []
    fits = max(1, int(batch_size * memory.available / memory.step * 0.8))
    return [fault("memory", "", f"{memory}; --data.batch_size {fits} would fit")]


def _decodable(samples: Samples, number: int) -> Samples:
    """Return the first `number` samples whose files can be decoded."""
    if not isinstance(samples, Files):
        return samples
    indices: list[int] = []
    for index in range(len(samples)):
        with suppress(BrokenFiles):
            samples.read(index)
            indices.append(index)
        if len(indices) == number:
            break
    return samples.subset(torch.tensor(indices)) if indices else samples


def _batch(datamodule: ImageDataModule, samples: Samples, size: int) -> Any:
    """Return a training batch as the model gets it."""
    indices = [i % len(samples) for i in range(size)]
    split = Split(samples, datamodule.augment, datamodule.sample, datamodule.collate)
    batch = split.__getitems__([(i, 0) for i in indices])
    mean, std = datamodule.mean, datamodule.std
    if mean is None or std is None:  # they are computed from all images, and do not change any size
        channels = datamodule.in_channels
        datamodule.mean, datamodule.std = [0.5] * channels, [0.25] * channels
    try:
        return datamodule.on_after_batch_transfer(batch, 0)
    finally:
        datamodule.mean, datamodule.std = mean, std


def _saved_bytes(model: L.LightningModule, batch: Any, precision: str) -> int:
    """Return the bytes that a training step keeps for its backward pass, with the largest of their gradients."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    half = torch.autocast("cpu", torch.bfloat16, enabled="16" in precision)
    model.train()
    with warnings.catch_warnings(), half, saved_tensors_hooks(keep, lambda tensor: tensor):
        warnings.simplefilter("ignore")  # the step logs, but there is no trainer
        loss = model.training_step(batch, 0)
    del loss
    return sum(kept.values()) + 2 * max(kept.values(), default=0)


def machine_memory() -> int:
    """Return the memory of this machine in bytes, or of the process's container if that has less; 0 if unknown."""
    if not hasattr(os, "sysconf"):  # Windows
        return 0
    limit = Path("/sys/fs/cgroup/memory.max")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = limit.read_text().strip() if limit.is_file() else "max"
    return pages if allowed == "max" else min(pages, int(allowed))


def _gb(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
