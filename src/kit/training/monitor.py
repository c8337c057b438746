"""The validation metric that a run watches."""

from typing import Literal

import lightning as L
from torch import Tensor

from kit.ground.errors import UserError, nearest

NEVER = 2**31


def require_logged(key: str, logged: dict[str, Tensor], flag: str) -> None:
    """
    Raises:
        UserError: there is no such log key.
    """
    if key not in logged:
        keys = sorted(known for known in logged if known.startswith("val/"))
        raise UserError(f"{flag}: no {key!r} is logged{nearest(key, keys)} (there are {', '.join(keys) or 'none'})")


def watched(
    pl_module: L.LightningModule, monitor: str | None, mode: Literal["min", "max"] | None
) -> tuple[str, Literal["min", "max"]]:
    """What to watch and which way is up: as asked, else as the task says, else `val/loss`."""
    own = getattr(pl_module, "monitor", "val/loss")
    key = str(monitor or own)
    if mode is None and key == own:
        mode = getattr(pl_module, "mode", None)
    return key, mode or ("min" if key.endswith("loss") else "max")
