"""The only place where private names of jsonargparse are replaced. Tested with jsonargparse 4.53."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from jsonargparse import Namespace, _typehints
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

# jsonargparse calls this function where a class replaces another, in a config or on the command line. It removes the
# arguments of the old class that the new class does not accept; jsonargparse gives the others to the new class.
DISCARD = "discard_init_args_on_class_path_change"


class Carried(NamedTuple):
    """A learning rate that an optimizer has from the optimizer that it replaced.

    old, new: the class paths of the two.
    """

    old: str
    new: str
    rate: float


@contextmanager
def own_defaults() -> Iterator[list[Carried]]:
    """Give an optimizer or a schedule that replaces another its own defaults, while jsonargparse reads a config.

    Without this, jsonargparse keeps each argument whose name both classes have, so that Adam would get the weight decay
    of AdamW. Of an optimizer, only the learning rate is kept. Other classes, such as nets and data modules, keep all
    arguments that they share.

    Yields:
        the learning rates that were kept, in their order
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
                if "lr" in arguments and "lr" not in (now.get("init_args") or {}):
                    carried.append(Carried(before["class_path"], now["class_path"], arguments["lr"]))
        discard(parser_or_action, before, now)

    setattr(_typehints, DISCARD, discard_more)
    try:
        yield carried
    finally:
        setattr(_typehints, DISCARD, discard)
