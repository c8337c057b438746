"""What is said where there is too little memory: how much was needed and had, and what to change."""

import re
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from kit.ground.errors import UserError

UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
CHANGE = (
    "smaller images (half the height and width take a quarter: data.image_size), half the precision "
    "(--trainer.precision bf16-mixed) or a smaller net (model.net)"
)


class DoesNotFit(UserError):
    """Not even one sample fits into memory."""

    exit_code = 1


def one_sample(batch: Any, said: str) -> DoesNotFit:
    tensors = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor) and leaf.ndim > 1]
    shape = f" ({' x '.join(map(str, tensors[0].shape[1:]))})" if tensors else ""
    return DoesNotFit(f"one sample{shape} does not fit: {numbers(said)}; what helps: {CHANGE}")


def numbers(said: str) -> str:
    """What torch says when it cannot allocate, in short: `17.1 GB are needed (14.2 held, 2.9 more), 16.0 GB are there`.

    Where there are no numbers in it, its first line.
    """
    more, held = _bytes(r"Tried to allocate {}", said), _bytes(r"Of the allocated memory {}", said)
    there = _bytes(r"{} allowed", said) or _bytes(r"total capacity of {}", said)
    if not more or not there:
        return f"out of memory ({(said.splitlines() or ['no more is known'])[0]})"
    free = _bytes(r"of which {} is free", said)
    others = f", of which {_gb(free)} were free" if free is not None and held + more < there else ""
    return f"{_gb(held + more)} are needed ({_gb(held)} held, {_gb(more)} more), {_gb(there)} are there{others}"


def _bytes(pattern: str, said: str) -> float:
    """0 if it is not said."""
    found = re.search(pattern.format(r"([\d.]+) (\w+)"), said)
    return float(found[1]) * UNITS.get(found[2], 0) if found else 0.0


def _gb(count: float) -> str:
    return f"{count / 1e9:,.2f} GB"
