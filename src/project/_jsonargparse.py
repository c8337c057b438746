"""The private names of jsonargparse that are replaced here, and nowhere else. Tried with jsonargparse 4.53."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from jsonargparse import Namespace, _typehints
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

# Called wherever a class takes the place of another, in a config or on the command line. It removes from the arguments
# of the old class those that the new class does not accept, and jsonargparse gives the rest to the new class.
DISCARD = "discard_init_args_on_class_path_change"


class Carried(NamedTuple):
    """The learning rate that an optimizer got from the optimizer whose place it took. Classes are given by path."""

    old: str
    new: str
    rate: float


@contextmanager
def own_defaults() -> Iterator[list[Carried]]:
    """Give an optimizer or a schedule that takes another's place its own defaults, while jsonargparse reads a config.

    Without this, jsonargparse keeps each argument whose name both classes have, so that Adam would get the weight decay
    of AdamW. Only the learning rate of an optimizer is kept. Nets and data modules keep all that they share.

    Yields:
        The learning rates that were kept, in the order in which they were met.
    """
    carried: list[Carried] = []
    discard = getattr(_typehints, DISCARD)

    def discard_more(parser_or_action: Any, before: Any, now: Any) -> None:
        if before and "init_args" in before and before["class_path"] != now["class_path"]:
            new = _typehints.import_object(now["class_path"])
            if isinstance(new, type) and issubclass(new, (Optimizer, LRScheduler)):
                arguments = before["init_args"]
                names = vars(arguments) if isinstance(arguments, Namespace) else arguments
                for name in [name for name in names if name != "lr" or issubclass(new, LRScheduler)]:
                    del arguments[name]
                if "lr" in arguments:
                    carried.append(Carried(before["class_path"], now["class_path"], arguments["lr"]))
        discard(parser_or_action, before, now)

    setattr(_typehints, DISCARD, discard_more)
    try:
        yield carried
    finally:
        setattr(_typehints, DISCARD, discard)
