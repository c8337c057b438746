"""Pause Python's garbage collector while many objects are created."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collection_paused() -> Iterator[None]:
    """Pause the collector, as a context or as a decorator.

    It looks at all objects again and again while their number grows. Without it, a JSON file of a million objects is
    read in less than half of the time (benchmarks/growth.py).
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
