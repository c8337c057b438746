"""Compute a batch in parts if memory runs out, and copy a run's state to the CPU's memory.

If not even one sample fits, the user gets advice. The copies are for snapshots and for checkpoints.
`return_freed_memory` and `garbage_collection_paused` are for large images and large annotation files.
"""

import ctypes
import gc
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from math import ceil
from typing import Any, TypeVar

import torch
from torch import Tensor

from kit.ground.errors import UserError

T = TypeVar("T")
ADVICE = (
    "smaller images (data.image_size; half the height and width take a quarter of the memory), lower precision "
    "(--trainer.precision bf16-mixed) or a smaller net (model.net)"
)


class DoesNotFit(UserError):
    """A computation does not fit into memory, even for a single sample."""

    exit_code = 1


class SampleLimit:
    """The largest number of samples to compute at a time. It is halved each time memory runs out.

    Attributes:
        size: the number of samples; None until memory has run out for the first time.
    """

    def __init__(self) -> None:
        self.size: int | None = None

    def parts(self, num_samples: int) -> int:
        """Return into how many parts to divide a batch with this number of samples."""
        return 1 if self.size is None else max(1, ceil(num_samples / self.size))

    def halve(self, num_samples: int, torch_message: str) -> None:
        """Set the limit to half of the samples that did not fit, and free the memory that torch caches.

        Args:
            num_samples: the number of samples that did not fit.
            torch_message: the message of torch's `OutOfMemoryError`.

        Raises:
            DoesNotFit: a single sample did not fit.
        """
        if num_samples <= 1:
            shortage = " ".join(torch_message.partition(" Of the allocated")[0].split())  # memory needed and free
            raise DoesNotFit(f"one sample does not fit: {shortage}; what helps: {ADVICE}")
        self.size = ceil(num_samples / 2)
        gc.collect()
        torch.cuda.empty_cache()


def in_halves(work: Callable[..., T], *arguments: Any, limit: SampleLimit | None = None) -> list[T]:
    """Call a function with all samples, or with fewer samples per call if memory runs out.

    Args:
        work: the function. It is called with the arguments, or with the same part of each argument.
        arguments: tensors or lists with an entry for each sample.
        limit: stores how many samples fit, for later calls. By default, each call begins with all samples.

    Returns:
        the results of `work` for the parts, in order.

    Raises:
        DoesNotFit: not even one sample fits.
    """
    limit = limit or SampleLimit()
    results: list[T] = []
    num_samples, start = len(arguments[0]), 0
    while start < num_samples or not results:
        count = min(limit.size or num_samples, num_samples - start)
        part = arguments if count == num_samples else [argument[start : start + count] for argument in arguments]
        try:
            results.append(work(*part))
            start += count
            continue
        except torch.OutOfMemoryError as error:
            message = str(error)
        limit.halve(count, message)  # after the `except` clause, in which the exception keeps tensors in memory
    return results


def copy_to_cpu(value: Any, copies: dict[Any, Tensor] | None = None) -> Any:
    """Return nested values in which all tensors are copied to the CPU. Equal views of the same memory are copied once.

    Copies from a GPU are asynchronous. Call `torch.cuda.synchronize` before reading them.

    Args:
        value: a tensor, a dict, a list, a tuple or any other value. Other values are not copied.
        copies: the copies that were made so far. The key of a copy describes the memory of the original tensor.
    """
    copies = {} if copies is None else copies
    if isinstance(value, Tensor):
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if key not in copies:
            empty = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            copies[key] = empty.copy_(value.detach(), non_blocking=value.is_cuda)
        return copies[key]
    if isinstance(value, dict):
        copied = copy(value)  # keeps the class and the attribute `_metadata` of a state dict
        copied.update({key: copy_to_cpu(item, copies) for key, item in value.items()})
        return copied
    if type(value) in (list, tuple):
        return type(value)(copy_to_cpu(item, copies) for item in value)
    return value


def return_freed_memory() -> None:
    """Return freed memory to the system. By default, glibc keeps the memory that each thread has freed."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause Python's garbage collector, which looks at all objects again and again while their number grows.

    A JSON file of a million objects is then read in less than half of the time.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
