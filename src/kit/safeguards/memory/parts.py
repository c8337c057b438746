"""Parts of a batch: how it is divided, and how what they give is put together."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import lightning as L
import torch
from torch import Tensor


def count(batch: Any) -> int:
    """The samples of a batch: the length of its first tensor, or, where its fields are no tensors, of its first list.

    The fields are a tuple's, a dict's values or, of a list, its elements, unless these are tuples or dicts: then each
    is a sample.

    Raises:
        TypeError: it is nothing of that kind.
    """
    if isinstance(batch, Tensor) and batch.ndim:
        return len(batch)
    if _is_samples(batch):
        return len(batch)
    fields = _fields(batch)
    tensors = [field for field in fields if isinstance(field, Tensor) and field.ndim]
    if tensors:
        return len(tensors[0])
    sequences = [field for field in fields if isinstance(field, (list, tuple))]
    if sequences:
        return len(sequences[0])
    nested = [field for field in fields if isinstance(field, dict)]
    if nested:
        return count(nested[0])
    raise TypeError(f"a batch of type {type(batch).__name__} has no samples that could be counted")


def split(batch: Any, parts: int) -> list[Any]:
    """Parts of nearly equal size, each of the batch's own structure.

    Tensors are divided along their first axis, and lists of one entry a sample as lists; what is neither (a number,
    a name) is in each part.

    Raises:
        TypeError: it cannot be divided, or not without a guess.
    """
    samples = count(batch)
    edges = [samples * i // parts for i in range(parts + 1)]
    slices = [slice(start, end) for start, end in pairwise(edges)]
    if _is_samples(batch):
        return [batch[part] for part in slices]
    return [_cut(batch, part, samples, top=True) for part in slices]


def _cut(value: Any, part: slice, samples: int, top: bool = False) -> Any:
    if isinstance(value, Tensor) and value.ndim:
        if len(value) != samples:
            raise TypeError(f"a tensor of {list(value.shape)} in a batch of {samples} samples cannot be divided")
        return value[part]
    if isinstance(value, dict):
        return {key: _cut(each, part, samples) for key, each in value.items()}
    if not isinstance(value, (list, tuple)):
        return value
    if not top and len(value) == samples:
        if all(isinstance(each, Tensor) and each.ndim and len(each) == samples for each in value):
            raise TypeError(f"{samples} tensors of length {samples}: one a sample, or each for all samples?")
        return value[part]
    made = [_cut(each, part, samples) for each in value]
    return type(value)(*made) if hasattr(value, "_fields") else type(value)(made)


def _is_samples(batch: Any) -> bool:
    return isinstance(batch, list) and bool(batch) and isinstance(batch[0], (tuple, dict))


def _fields(batch: Any) -> list[Any]:
    if isinstance(batch, dict):
        return list(batch.values())
    return list(batch) if isinstance(batch, (list, tuple)) else []


def joined(outputs: Sequence[Any], counts: Sequence[int]) -> Any:
    """What steps over the parts returned, as one over the whole would have.

    Tensors and lists are put end to end, numbers (tensors without axes, too) averaged over the samples.
    """
    first = outputs[0]
    if isinstance(first, Tensor) and first.ndim:
        return torch.cat(list(outputs))
    if isinstance(first, (Tensor, float)):
        return sum(value * n for value, n in zip(outputs, counts, strict=True)) / sum(counts)
    if isinstance(first, dict):
        return {key: joined([output[key] for output in outputs], counts) for key in first}
    if isinstance(first, list):
        return [entry for output in outputs for entry in output]
    if isinstance(first, tuple):
        made = [joined(each, counts) for each in zip(*outputs, strict=True)]
        return type(first)(*made) if hasattr(first, "_fields") else tuple(made)
    return first


class Logs:
    """What steps over parts log, to be logged once: numbers averaged over the samples, metrics as they are."""

    def __init__(self) -> None:
        self._part: dict[str, tuple[Any, tuple[Any, ...], dict[str, Any]]] = {}
        self._kept: dict[str, list[tuple[Any, int]]] = {}
        self._options: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def take(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        """In the place of `LightningModule.log`."""
        self._part[name] = value.detach() if isinstance(value, Tensor) else value, args, options

    def keep(self, samples: int) -> None:
        """A part of so many samples is done; what one logs that fails is not kept."""
        for name, (value, args, options) in self._part.items():
            self._kept.setdefault(name, []).append((value, samples))
            self._options[name] = args, options
        self._part = {}

    def drop(self) -> None:
        self._part = {}

    def log(self, pl_module: L.LightningModule) -> None:
        for name, values in self._kept.items():
            samples = sum(n for _, n in values)
            args, options = self._options[name]
            if "batch_size" in options:
                options = {**options, "batch_size": samples}
            last = values[-1][0]
            number = isinstance(last, (Tensor, int, float))
            pl_module.log(name, sum(v * n for v, n in values) / samples if number else last, *args, **options)
