"""Reading many files at once."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

PART = 16  # items that a thread takes at a time
T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` of each item, in order, at most a thousand ahead of whoever takes the results.

    More threads than cores: what reads files mostly waits, for a network's disk above all.
    """
    items = iter(items)
    with ThreadPoolExecutor(min(32, 4 * cores())) as pool:
        while parts := [part for _ in range(64) if (part := list(islice(items, PART)))]:
            for results in pool.map(lambda part: [work(item) for item in part], parts):
                yield from results
