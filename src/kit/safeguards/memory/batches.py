"""Divide batches of any structure into parts."""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

from torch import Tensor

from kit.ground._torch import tree_map
from kit.ground.out_of_memory import DoesNotFit


def count_samples(batch: Any) -> int:
    """Return the number of samples in a batch.

    A list of tuples or dicts has one item for each sample. Any other dict, tuple or list has fields, such as images and
    targets. The number of samples is then the length of the first tensor or, if there is no tensor, of the first list.

    Raises:
        DoesNotFit: the batch has another structure, and so cannot be divided.
    """
    fields = list(batch.values()) if isinstance(batch, dict) else batch
    if isinstance(fields, Tensor) or not isinstance(fields, Sequence) or _is_list_of_samples(fields):
        fields = [fields]
    sized: list[Any] = [field for field in fields if isinstance(field, Tensor) and field.ndim]
    sized += [field for field in fields if isinstance(field, (list, tuple))]
    if not sized:
        raise _cannot_divide(f"a batch of type {type(batch).__name__} has no samples and")
    return len(sized[0])


def divide(batch: Any, parts: int) -> list[Any]:
    """Divide a batch into parts of nearly equal size. Each part has the structure of the batch.

    Tensors are divided along their first dimension. Lists with one item for each sample are divided as well. Anything
    else, such as a number or a name, is repeated in each part.

    Raises:
        DoesNotFit: the batch cannot be divided, or its structure is ambiguous.
    """
    samples = count_samples(batch)

    def has_item_per_sample(value: Any) -> bool:
        has_length = isinstance(value, (list, tuple)) and len(value) == samples
        return has_length and (value is not batch or _is_list_of_samples(batch))

    def take(part: slice, value: Any) -> Any:
        if isinstance(value, Tensor) and value.ndim:
            if len(value) != samples:
                raise _cannot_divide(f"a tensor of {list(value.shape)} in a batch of {samples} samples")
        elif has_item_per_sample(value):
            if all(isinstance(item, Tensor) and item.ndim and len(item) == samples for item in value):
                raise _cannot_divide(f"a list of {samples} tensors of length {samples} (is it one for each sample?)")
        elif isinstance(value, (dict, list, tuple)):  # of a subclass, which `tree_map` does not enter
            raise _cannot_divide(f"a {type(value).__name__} in a batch")
        else:
            return value
        return value[part]

    edges = [samples * i // parts for i in range(parts + 1)]
    slices = [slice(*edge) for edge in pairwise(edges)]
    return [tree_map(partial(take, part), batch, is_leaf=has_item_per_sample) for part in slices]


def _is_list_of_samples(batch: Any) -> bool:
    return isinstance(batch, list) and bool(batch) and isinstance(batch[0], (tuple, dict))


def _cannot_divide(description: str) -> DoesNotFit:
    return DoesNotFit(f"out of memory, and {description} cannot be divided: lower data.batch_size")
