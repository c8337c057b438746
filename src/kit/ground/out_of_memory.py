"""Error messages for a lack of memory: how much was needed, how much there is, and what to change."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor

from kit.ground._torch import tree_leaves
from kit.ground.errors import UserError

T = TypeVar("T")
UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
ADVICE = (
    "smaller images (half the height and width take a quarter: data.image_size), half the precision "
    "(--trainer.precision bf16-mixed) or a smaller net (model.net)"
)


class DoesNotFit(UserError):
    """Not even one sample fits into memory."""

    exit_code = 1


def in_halves(work: Callable[..., T], *arguments: Any) -> list[T]:
    """Call `work` with all samples at once or, where memory runs out, with halves of them, again and again.

    Args:
        work: called with the arguments, or with the same part of each.
        arguments: tensors or lists with an entry a sample.

    Returns:
        what `work` returned for each part, in their order.

    Raises:
        DoesNotFit: not even one sample fits.
    """
    try:
        return [work(*arguments)]
    except torch.OutOfMemoryError as error:
        message = str(error)
    samples = len(arguments[0])
    if samples == 1:
        raise sample_does_not_fit(arguments[0], message)
    halves = slice(samples // 2), slice(samples // 2, None)
    return [found for half in halves for found in in_halves(work, *(argument[half] for argument in arguments))]


def sample_does_not_fit(batch: Any, torch_message: str) -> DoesNotFit:
    """Return the exception to raise if a single sample does not fit into memory.

    Args:
        batch: the batch of one sample; its first tensor's shape is named.
        torch_message: the message of torch's `OutOfMemoryError`.
    """
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim > 1]
    shape = f" ({' x '.join(map(str, tensors[0].shape[1:]))})" if tensors else ""
    return DoesNotFit(f"one sample{shape} does not fit: {memory_needed(torch_message)}; what helps: {ADVICE}")


def memory_needed(torch_message: str) -> str:
    """Return torch's message in short: `17.1 GB are needed (14.2 GB held, 2.9 GB more), 16.0 GB are there`.

    If the message contains no numbers, return its first line.
    """
    more, held = _bytes(r"Tried to allocate {}", torch_message), _bytes(r"Of the allocated memory {}", torch_message)
    total = _bytes(r"{} allowed", torch_message) or _bytes(r"total capacity of {}", torch_message)
    if not more or not total:
        return f"out of memory ({(torch_message.splitlines() or ['no more is known'])[0]})"
    free = _bytes(r"of which {} is free", torch_message)
    others = f", of which {_gb(free)} were free" if free is not None and held + more < total else ""
    return f"{_gb(held + more)} are needed ({_gb(held)} held, {_gb(more)} more), {_gb(total)} are there{others}"


def _bytes(pattern: str, text: str) -> float:
    """Return the size in bytes at `{}` in a pattern, as in "3.00 GiB"; 0 if the text does not match."""
    match = re.search(pattern.format(r"([\d.]+) (\w+)"), text)
    return float(match[1]) * UNITS.get(match[2], 0) if match else 0.0


def _gb(count: float) -> str:
    return f"{count / 1e9:,.2f} GB"
