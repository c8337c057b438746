"""Whether a net takes images of the sizes that it is going to get."""

from typing import Any

import lightning as L
import torch

from project import UserError
from project.trust import in_a_line

USUAL = (32, 64, 96, 128, 160, 192, 224, 240, 256, 288, 299, 320, 384, 448, 512, 518)  # that nets are made for


def refuse_wrong_sizes(task: L.LightningModule) -> None:
    """Call a task, which maps images alone, with one blank image of each size that its data module gives.

    Raises:
        UserError: the task raises an exception, but takes square images of a usual size. If it takes none of these,
            the size is not its fault, and training will show what is.
    """
    data: Any = task.trainer.datamodule  # type: ignore[attr-defined]  # which the trainer gets from its data connector
    for key, size in getattr(data, "image_sizes", {}).items():
        if (error := _error(task, data.in_channels, *size)) is None:
            continue
        nearest_first = sorted(USUAL, key=lambda side: abs(side - max(size)))
        good = next((side for side in nearest_first if _error(task, data.in_channels, side, side) is None), None)
        if good is not None:
            raise UserError(
                f"{key}: {type(task.net).__name__} takes no images of {size[0]}x{size[1]} "
                f"({type(error).__name__}: {in_a_line(error)}), but of {good}x{good}"
            )


def _error(task: L.LightningModule, channels: int, height: int, width: int) -> Exception | None:
    """What the task raises for an image of that size; its modules have the same mode afterwards as before."""
    weight = next(task.parameters())
    image = torch.zeros(1, channels, height, width, dtype=weight.dtype, device=weight.device)
    modes = {module: module.training for module in task.modules()}
    try:
        with torch.no_grad():
            task.eval()(image)
    except Exception as error:  # a net of anyone's can raise anything
        return error
    finally:
        for module, mode in modes.items():
            module.training = mode
    return None
