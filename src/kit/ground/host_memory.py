"""Copies of a run's state in the machine's memory, for snapshots and for checkpoints that a thread writes."""

from collections.abc import Iterator
from copy import copy
from typing import Any

import torch
from torch import Tensor


class HostMemory:
    """Memory for one copy of nested values. The next copy reuses it: the first use of new memory is six times as slow.

    Copies from a GPU are made without waiting for them: call `torch.cuda.synchronize` before reading them.
    """

    def __init__(self) -> None:
        self.buffers: list[Tensor] = []

    def copy(self, content: Any) -> Any:
        """Return the nested values with all tensors copied to the CPU, and overwrite the previous copy.

        Dicts, lists and tuples are copied. Tensors that share all their memory share it in the copy too.
        """
        spare, copies = iter(self.buffers), dict[Any, Tensor]()
        content = _copied(content, spare, copies)
        self.buffers = list(copies.values())
        return content


def _copied(value: Any, spare: Iterator[Tensor], copies: dict[Any, Tensor]) -> Any:
    """Return a copy of nested values.

    Args:
        spare: buffers to use, in the order in which the tensors come.
        copies: the tensors that have been copied, by what identifies the memory of the original.
    """
    if isinstance(value, Tensor):
        key = (value.device, value.data_ptr(), value.dtype, value.shape, value.stride())
        if key not in copies:
            buffer = next(spare, None)
            if buffer is None or (buffer.dtype, buffer.shape, buffer.stride()) != key[2:]:
                buffer = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            copies[key] = buffer.copy_(value.detach(), non_blocking=value.is_cuda)
        return copies[key]
    if isinstance(value, dict):
        copied = copy(value)  # of the same class, and with the versions that a state_dict has as an attribute
        for key, item in value.items():
            copied[key] = _copied(item, spare, copies)
        return copied
    if type(value) in (list, tuple):
        return type(value)(_copied(item, spare, copies) for item in value)
    return value
