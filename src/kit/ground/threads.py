"""Read many files at once, in threads."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    # Only Linux has this function.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(work: Callable[[T], R], items: Iterable[T], at_once: int = 16, ahead: int = 64) -> Iterator[R]:
    """Yield `work(item)` for each item, in order.

    There are more threads than cores, since a thread that reads files mostly waits, above all for a network disk.

    Args:
        at_once: the number of items that a thread takes at a time.
        ahead: the largest number of such portions that are being computed, or are computed and not yet yielded.
    """
    items = iter(items)
    with ThreadPoolExecutor(min(32, 4 * available_cores(), ahead)) as pool:
        waiting: deque[Future[list[R]]] = deque()
        try:
            while chunk := list(islice(items, at_once)):
                waiting.append(pool.submit(lambda chunk: [work(item) for item in chunk], chunk))
                if len(waiting) >= ahead:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:  # the caller may have stopped early
            pool.shutdown(wait=False, cancel_futures=True)
