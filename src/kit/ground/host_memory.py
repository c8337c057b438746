"""Copy a run's state to the CPU's memory, for snapshots and for checkpoints that a thread writes.

`return_freed_memory` and `garbage_collection_paused` are for large images and large annotation files.
"""

import ctypes
import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from torch import Tensor


class HostMemory:
    """Memory for one copy of nested values. Each copy reuses it, since writing to new memory takes six times as long.

    Copies from a GPU are asynchronous. Call `torch.cuda.synchronize` before reading them.
    """

    def __init__(self) -> None:
        self.buffers: list[Tensor] = []

    def copy(self, content: Any) -> Any:
        """Return nested values in which all tensors are copied to the CPU. The previous copy is overwritten.

        Equal views of the same memory are copied once.
        """
        unused, copies = iter(self.buffers), dict[Any, Tensor]()
        content = _copy(content, unused, copies)
        self.buffers = list(copies.values())
        return content


def _copy(value: Any, unused: Iterator[Tensor], copies: dict[Any, Tensor]) -> Any:
    """Return a copy of nested values.

    Args:
        unused: the tensors of the previous copy that have not been reused yet.
        copies: the copies so far. The key of each describes the memory of its original.
    """
    if isinstance(value, Tensor):
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if key not in copies:
            buffer = next(unused, None)
            if buffer is None or (buffer.dtype, buffer.shape, buffer.stride()) != key[2:]:
                buffer = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            copies[key] = buffer.copy_(value.detach(), non_blocking=value.is_cuda)
        return copies[key]
    if isinstance(value, dict):
        copied = copy(value)  # keeps the class and the attribute `_metadata` of a state dict
        for key, item in value.items():
            copied[key] = _copy(item, unused, copies)
        return copied
    if type(value) in (list, tuple):
        return type(value)(_copy(item, unused, copies) for item in value)
    return value


def return_freed_memory() -> None:
    """Return the memory that all threads have freed to the system. glibc would keep it, separately for each thread."""
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
