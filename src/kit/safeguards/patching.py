"""Replace methods of other objects for a while.

The memory guard wraps the training step, `backward`, the optimizer's step and `log`. Lightning has no hooks around
these.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replace_method(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of an object until the context ends."""
    before = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        vars(owner).pop(name, None)
        if before is not None:
            setattr(owner, name, before)
