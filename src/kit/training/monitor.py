"""The validation metric that a run monitors."""

from typing import Literal

import lightning as L
from torch import Tensor

from kit.ground.errors import UserError, did_you_mean
from kit.task import as_task

Mode = Literal["min", "max"]
NEVER = 2**31  # validations without improvement, for a run that is never stopped early


def require_logged(key: str, logged: dict[str, Tensor], option: str) -> None:
    """Check that a metric is logged.

    Args:
        key: its log key.
        logged: all metrics that are logged.
        option: the option of the command line with that key, for the error message.

    Raises:
        UserError: the metric is not logged.
    """
    if key not in logged:
        keys = sorted(known for known in logged if known.startswith("val/"))
        logged_keys = ", ".join(keys) or "none"
        raise UserError(f"{option}: no {key!r} is logged{did_you_mean(key, keys)} (there are {logged_keys})")


def resolve_monitor(pl_module: L.LightningModule, monitor: str | None, mode: Mode | None) -> tuple[str, Mode]:
    """Return the log key to monitor and whether the lower or the higher value is the better.

    Args:
        monitor: the log key that the user wants; by default the task's, or `val/loss`.
        mode: the mode that the user wants; by default the task's, or `min` for a loss and `max` for anything else.
    """
    task = as_task(pl_module)
    key = str(monitor or task.monitor)
    if mode is None and key == task.monitor:
        mode = task.mode
    return key, mode or ("min" if key.endswith("loss") else "max")
