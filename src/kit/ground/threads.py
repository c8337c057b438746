"""Read many files in parallel, in threads."""

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
    # Only Linux has `sched_getaffinity`.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(work: Callable[[T], R], items: Iterable[T], per_task: int = 16, max_tasks: int = 64) -> Iterator[R]:
    """Yield `work(item)` for each item, in the order of the items.

    There are more threads than cores, since a thread that reads files mostly waits.

    Args:
        per_task: the number of items in a chunk. A thread takes a chunk at a time.
        max_tasks: the maximum number of chunks that are computed ahead of the caller.
    """
    items = iter(items)
    with ThreadPoolExecutor(min(32, 4 * available_cores(), max_tasks)) as pool:
        waiting: deque[Future[list[R]]] = deque()
        try:
            while chunk := list(islice(items, per_task)):
                waiting.append(pool.submit(lambda chunk: [work(item) for item in chunk], chunk))
                if len(waiting) >= max_tasks:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:  # the caller may have stopped before the last item
            pool.shutdown(wait=False, cancel_futures=True)
