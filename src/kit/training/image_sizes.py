"""Check that a net can take images of the sizes that it will get."""

from typing import Any

import lightning as L
import torch

from kit.ground.errors import UserError, one_line

USUAL_SIDES = (32, 64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 512, 518)  # pixels


def refuse_wrong_sizes(task: L.LightningModule) -> None:
    """Call a task with one blank image of each size that its data module gives.

    Args:
        task: its `forward` takes only images.

    Raises:
        UserError: the task fails for one of these sizes, but takes square images of a usual size. If it takes none of
            those either, the size is not the reason, and training will show what is.
    """
    data: Any = task.trainer.datamodule  # type: ignore[attr-defined]  # the trainer's data connector sets it
    for key, size in getattr(data, "image_sizes", {}).items():
        if (error := _error(task, data.in_channels, *size)) is None:
            continue
        nearest_first = sorted(USUAL_SIDES, key=lambda side: abs(side - max(size)))
        side = next((side for side in nearest_first if _error(task, data.in_channels, side, side) is None), None)
        if side is not None:
            raise UserError(
                f"{key}: {type(task.net).__name__} cannot take images of {size[0]}x{size[1]} "
                f"({type(error).__name__}: {one_line(error)}); it takes {side}x{side}"
            )


def _error(task: L.LightningModule, channels: int, height: int, width: int) -> Exception | None:
    """Return what the task raises for an image of that size, or None. The modes of its modules do not change."""
    weight = next(task.parameters())
    image = torch.zeros(1, channels, height, width, dtype=weight.dtype, device=weight.device)
    modes = {module: module.training for module in task.modules()}
    try:
        with torch.no_grad():
            task.eval()(image)
    except Exception as error:  # anyone may have written the net, and it may raise anything
        return error
    finally:
        for module, mode in modes.items():
            module.training = mode
    return None
