"""The only place that puts other methods into objects, for a while.

Lightning has no hook around a step, around `backward` or around the optimizer's step, and none for a plain module's
`log`. The memory guard needs all of them, and the dashboard what `loss_terms` is given.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    """Let an object have another method, and give it back its own at the end."""
    before = vars(owner).get(name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        vars(owner).pop(name, None)
        if before is not None:
            setattr(owner, name, before)
