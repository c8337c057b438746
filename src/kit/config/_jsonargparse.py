"""Replace functions of jsonargparse. Tested with jsonargparse 4.53."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonargparse
from jsonargparse import Namespace, _typehints
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from kit.ground.files import MAX_LIST_BYTES, read_text

# jsonargparse calls this function when a class replaces another, in a config or on the command line. The function
# removes the arguments that the new class does not accept. jsonargparse passes the other arguments to the new class.
DISCARD = "discard_init_args_on_class_path_change"


# jsonargparse would turn the null of `--model.net.weights null` into the text "None".
_typehints.NestedArg.val = property(lambda argument: "null" if argument[1] is None else argument[1])

# jsonargparse would decode configs by the user's locale.
jsonargparse.Path.read_text = lambda path: read_text(Path(path.absolute), MAX_LIST_BYTES)


@contextmanager
def reset_replaced_arguments() -> Iterator[dict[str, tuple[str, float]]]:
    """Within this context, an optimizer or a schedule that replaces another one gets its own defaults.

    jsonargparse would keep each argument that both classes have, so Adam would get the weight decay of AdamW. Here an
    optimizer keeps only the learning rate. Other classes, such as nets, keep all arguments that both have.

    Yields:
        a dict that is filled within the context. It maps the class path of each optimizer that keeps a learning rate to
        (the class path of the optimizer that it replaces, the learning rate).
    """
    kept_rates: dict[str, tuple[str, float]] = {}
    discard = getattr(_typehints, DISCARD)  # a test looks for this name

    def discard_arguments(parser_or_action: Any, old: Any, new: Any) -> None:
        if old and "init_args" in old and old["class_path"] != new["class_path"]:
            new_class = _typehints.import_object(new["class_path"])
            if isinstance(new_class, type) and issubclass(new_class, (Optimizer, LRScheduler)):
                arguments = old["init_args"]
                names = vars(arguments) if isinstance(arguments, Namespace) else arguments
                # Keep `lr`. No schedule of torch has an argument `lr`.
                for name in [name for name in names if name != "lr"]:
                    del arguments[name]
                if "lr" in arguments and "lr" not in (new.get("init_args") or {}):
                    kept_rates[new["class_path"]] = (old["class_path"], arguments["lr"])
        discard(parser_or_action, old, new)

    setattr(_typehints, DISCARD, discard_arguments)
    try:
        yield kept_rates
    finally:
        setattr(_typehints, DISCARD, discard)
