"""The validation metric that a run watches."""

from typing import Literal

import lightning as L
from torch import Tensor

from kit.ground.errors import UserError, did_you_mean
from kit.task import as_task

NEVER = 2**31


def require_logged(key: str, logged: dict[str, Tensor], flag: str) -> None:
    """
    Raises:
        UserError: there is no such log key.
    """
    if key not in logged:
        keys = sorted(known for known in logged if known.startswith("val/"))
        raise UserError(
            f"{flag}: no {key!r} is logged{did_you_mean(key, keys)} (there are {', '.join(keys) or 'none'})"
        )


def watched(
    pl_module: L.LightningModule, monitor: str | None, mode: Literal["min", "max"] | None
) -> tuple[str, Literal["min", "max"]]:
    """What to watch and which way is up: as asked, else as the task says, else `val/loss`."""
    task = as_task(pl_module)
    key = str(monitor or task.monitor)
    if mode is None and key == task.monitor:
        mode = task.mode
    return key, mode or ("min" if key.endswith("loss") else "max")
