"""Exported files of tasks that nobody trained, against the tasks themselves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from kit.data import Preprocessing
from kit.exporting import agreement, command
from kit.exporting.graph import open_onnx, write_onnx
from kit.prediction import Predictor

# The canvas of `preprocessing` divided by 1, 2 or 4. Enlarging such an image multiplies pixels by multiples of 1 / 32.
SIZES = ((24, 32), (48, 64), (24, 16))


def pictures(channels: int = 3, sizes: Sequence[tuple[int, int]] = SIZES, grain: int = 0) -> list[torch.Tensor]:
    """Return images with patches and an edge, uint8 [C H W].

    Pixels are multiples of 32, so that enlarging them needs no rounding: rounding differs by 1 between libraries and
    processors, and a net that nobody trained makes much of that. Grain keeps the scores of detections apart.
    """
    generator = torch.Generator().manual_seed(1)
    made = []
    for height, width in sizes:
        coarse = torch.rand(1, channels, height // 6 + 1, width // 6 + 1, generator=generator)
        image = F.interpolate(coarse, (height, width), mode="bicubic")[0] * 255
        image[:, height // 3 : height // 2, width // 4 : width // 2] = 224
        noise = grain * torch.rand(image.shape, generator=generator)
        made.append((image + noise).clamp(0, 255).div(32).floor().mul(32).to(torch.uint8))
    return made


def preprocessing(channels: int = 3, size: tuple[int, int] | None = (48, 64), fitted: bool = False) -> Preprocessing:
    return Preprocessing(channels, size, fitted, [0.4, 0.5, 0.6][:channels], [0.2, 0.25, 0.3][:channels])


def settled(task: Any, channels: int = 3, size: tuple[int, int] = (64, 96)) -> Any:
    """With the statistics of its norms that images give it: else a deep random net answers everything alike."""
    for module in task.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(4, channels, *size, generator=generator)
    with torch.no_grad():
        getattr(task.net, "backbone", task.net).train()(images)
    return task.eval()


def written(task: Any, how: Preprocessing) -> tuple[Predictor, Any, Path]:
    """The model, the task's `exported()` and the file."""
    exported: Any = task.exported()
    file = Path("model.onnx")
    model = command.reference_model(Predictor(task, how), exported)
    write_onnx(how, exported, command.metadata(model, exported), file)
    return model, exported, file


def difference(task: Any, how: Preprocessing, images: Sequence[torch.Tensor] | None = None) -> float:
    """The largest, of images of several sizes and of a batch, as the task measures it."""
    model, exported, file = written(task, how)
    if model.takes_images:
        cases = agreement.image_cases(model, images or pictures(how.channels))
    else:
        cases = agreement.generation_cases(model, exported, 5)
    return agreement.compare(open_onnx(file), exported, cases)[0]
