"""Divide batches of any structure into parts."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor

from kit.ground._torch import tree_map
from kit.ground.out_of_memory import DoesNotFit


def count_samples(batch: Any) -> int:
    """Return the number of samples in a batch: the length of its first tensor, or else of its first list.

    The tensors and lists are the values of a dict or the items of a tuple or list. A list of tuples or dicts has one
    item for each sample.

    Raises:
        DoesNotFit: the batch has another structure, so that it cannot be divided.
    """
    fields = list(batch.values()) if isinstance(batch, dict) else batch
    if isinstance(fields, Tensor) or not isinstance(fields, Sequence) or _is_list_of_samples(fields):
        fields = [fields]
    sized: list[Any] = [field for field in fields if isinstance(field, Tensor) and field.ndim]
    sized += [field for field in fields if isinstance(field, (list, tuple))]
    if not sized:
        raise _cannot_divide(f"a batch of type {type(batch).__name__} has no samples and")
    return len(sized[0])


def split(batch: Any, parts: int) -> list[Any]:
    """Divide a batch into parts of nearly equal size and of the batch's own structure.

    Tensors are divided along their first dimension, and so are lists with an item for each sample. Anything else, such
    as a number or a name, is in each part.

    Raises:
        DoesNotFit: the batch cannot be divided, or only by a guess.
    """
    samples = count_samples(batch)

    def has_items_of_samples(value: Any) -> bool:
        is_list = isinstance(value, (list, tuple)) and len(value) == samples
        return is_list and (value is not batch or _is_list_of_samples(batch))

    def cut(value: Any, part: slice) -> Any:
        if isinstance(value, Tensor) and value.ndim:
            if len(value) != samples:
                raise _cannot_divide(f"a tensor of {list(value.shape)} in a batch of {samples} samples")
        elif has_items_of_samples(value):
            if all(isinstance(item, Tensor) and item.ndim and len(item) == samples for item in value):
                raise _cannot_divide(f"a list of {samples} tensors of length {samples}, one for each sample or not,")
        elif isinstance(value, (dict, list, tuple)):  # `tree_map` looks into the plain types only
            raise _cannot_divide(f"a {type(value).__name__} in a batch")
        else:
            return value
        return value[part]

    edges = [samples * i // parts for i in range(parts + 1)]
    return [
        tree_map(lambda value, part=slice(*edge): cut(value, part), batch, is_leaf=has_items_of_samples)
        for edge in pairwise(edges)
    ]


def _is_list_of_samples(batch: Any) -> bool:
    return isinstance(batch, list) and bool(batch) and isinstance(batch[0], (tuple, dict))


def _cannot_divide(what: str) -> DoesNotFit:
    return DoesNotFit(f"out of memory, and {what} cannot be divided: lower data.batch_size")
