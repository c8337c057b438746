"""The only place that replaces methods of other objects, for a while.

Lightning has no hook around a step, around `backward` or around the optimizer's step, and none for a plain module's
`log`. The memory guard needs all of them. The dashboard needs the arguments of `loss_terms`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of an object, and restore it at the end."""
    before = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        vars(owner).pop(name, None)
        if before is not None:
            setattr(owner, name, before)
