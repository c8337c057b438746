"""Replace methods of other objects for a while.

The memory guard needs this for methods such as `training_step` and `backward`: Lightning has no hooks around them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replace_method(instance: Any, name: str, replacement: Callable[..., Any]) -> Iterator[None]:
    """Replace a method of an object until the context ends."""
    earlier_replacement = vars(instance).get(name)
    setattr(instance, name, replacement)
    try:
        yield
    finally:
        vars(instance).pop(name, None)
        if earlier_replacement is not None:
            setattr(instance, name, earlier_replacement)
