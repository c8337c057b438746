"""Find the metric that a run monitors, and check that it is logged."""

from typing import Literal

import lightning as L
from torch import Tensor

from kit.ground.errors import UserError, did_you_mean
from kit.task import as_task

Mode = Literal["min", "max"]
NEVER = 2**31  # the patience, in validations, of a run that is never stopped early


def require_logged(key: str, logged: dict[str, Tensor], option: str) -> None:
    """Raise `UserError` if a metric is not logged.

    Args:
        key: the log key of the metric.
        logged: all logged metrics.
        option: the command line option that sets the key, such as `early_stopping.monitor`, for the error message.
    """
    if key not in logged:
        keys = sorted(known for known in logged if known.startswith("val/"))
        logged_keys = ", ".join(keys) or "none"
        raise UserError(f"{option}: no {key!r} is logged{did_you_mean(key, keys)} (logged: {logged_keys})")


def resolve_monitor(pl_module: L.LightningModule, monitor: str | None, mode: Mode | None) -> tuple[str, Mode]:
    """Return the log key to monitor, and whether a lower (`min`) or a higher (`max`) value is better.

    Args:
        monitor: the log key that the user gives, or None for the task's `monitor`.
        mode: the mode that the user gives, or None for the task's `mode` if the key is the task's `monitor`. Without
            either, the mode is `min` for a key that ends with `loss`, and `max` for any other key.
    """
    task = as_task(pl_module)
    key = str(monitor or task.monitor)
    if mode is None and key == task.monitor:
        mode = task.mode
    return key, mode or ("min" if key.endswith("loss") else "max")
