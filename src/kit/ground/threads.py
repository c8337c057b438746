"""Reading many files at once."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(work: Callable[[T], R], items: Iterable[T], at_once: int = 16, ahead: int = 64) -> Iterator[R]:
    """`work` of each item, in order.

    More threads than cores: what reads files mostly waits, for a network's disk above all.

    Args:
        at_once: items that a thread takes at a time.
        ahead: how many times that many are at work, or done and not taken yet.
    """
    items = iter(items)
    with ThreadPoolExecutor(min(32, 4 * cores(), ahead)) as pool:
        waiting: deque[Future[list[R]]] = deque()
        try:
            while part := list(islice(items, at_once)):
                waiting.append(pool.submit(lambda part: [work(item) for item in part], part))
                if len(waiting) >= ahead:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:  # whoever takes the results has stopped
            for future in waiting:
                future.cancel()
