"""Check that a net can take images of the sizes that it will get."""

import lightning as L
import torch

from kit.data import ImageDataModule
from kit.ground.errors import UserError, one_line

USUAL = 224  # the height and width in pixels of most pretrained nets


def refuse_wrong_sizes(task: L.LightningModule) -> None:
    """Call a task with one blank image of each size that its data module gives.

    Args:
        task: its `forward` takes only images.

    Raises:
        UserError: the task fails for one of these sizes, but takes images of the usual size. If it fails for that one
            too, the size is not the reason, and training will show the error.
    """
    data = task.trainer.datamodule  # type: ignore[attr-defined]  # the trainer's data connector sets it
    sizes = data.image_sizes if isinstance(data, ImageDataModule) else {}
    for key, size in sizes.items():
        error = _error(task, data.in_channels, *size)
        if error is not None and _error(task, data.in_channels, USUAL, USUAL) is None:
            raise UserError(
                f"{key}: {type(task.net).__name__} cannot take images of {size[0]}x{size[1]} "
                f"({type(error).__name__}: {one_line(error)}); it takes {USUAL}x{USUAL}"
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
