"""Read many files, in parallel if this is faster."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
QUICK_SECONDS = 0.0003  # files that take less time are read faster in a loop than in threads
# Threads take over if the loop has lost this many seconds: the sum of what each file took beyond `QUICK_SECONDS`.
MAX_DELAY = 0.1
# The number of files that threads read before the loop is tried again: perhaps only some are slow.
FILES_IN_THREADS = 8192


def available_cores() -> int:
    """Return the number of processor cores that this process may use."""
    # Only Linux has `sched_getaffinity`.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads(
    work: Callable[[T], R], items: Iterable[T], chunk_size: int = 16, max_chunks: int = 64
) -> Iterator[R]:
    """Yield `work(item)` for each item, in the order of the items.

    There may be more threads than cores, since a thread that reads files mostly waits.

    Args:
        chunk_size: the number of items in a chunk. A thread takes a chunk at a time.
        max_chunks: the maximum number of chunks that are computed ahead of the caller.
    """
    items = iter(items)
    with ThreadPoolExecutor(min(32, 4 * available_cores(), max_chunks)) as pool:
        waiting: deque[Future[list[R]]] = deque()
        try:
            while chunk := list(islice(items, chunk_size)):
                waiting.append(pool.submit(lambda chunk: [work(item) for item in chunk], chunk))
                if len(waiting) >= max_chunks:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:  # the caller may have stopped before the last item
            pool.shutdown(wait=False, cancel_futures=True)


def map_files(read: Callable[[T], R], files: Iterable[T]) -> Iterator[R]:
    """Yield `read(file)` for each file, in the order of the files.

    Small files are read in a loop: Python runs one thread at a time, and switching between threads takes longer than
    decoding a small image. Large files, and files on a slow disk or network share, are read in threads.
    """
    files = iter(files)
    delay = 0.0  # the seconds by which the loop is too slow
    for file in files:
        began = time.perf_counter()
        result = read(file)
        delay = max(0.0, delay + time.perf_counter() - began - QUICK_SECONDS)
        yield result
        if delay > MAX_DELAY:
            yield from map_in_threads(read, islice(files, FILES_IN_THREADS))
            delay = 0.0
