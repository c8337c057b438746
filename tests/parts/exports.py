"""A task that nobody trained, as a file, against the task itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

from project.exporting import agreement, command, onnx_file, pt2_file
from project.exporting.graph import Graph
from project.pipeline import Preprocessing
from project.prediction import Predictor

SIZES = ((30, 41), (64, 48), (57, 90))


def pictures(channels: int = 3, sizes: Sequence[tuple[int, int]] = SIZES) -> list[torch.Tensor]:
    """Smooth and with edges, uint8 [C H W]."""
    generator = torch.Generator().manual_seed(1)
    made = []
    for height, width in sizes:
        coarse = torch.rand(1, channels, height // 6 + 1, width // 6 + 1, generator=generator)
        image = F.interpolate(coarse, (height, width), mode="bicubic")[0] * 255
        image[:, height // 3 : height // 2, width // 4 : width // 2] = 230
        made.append(image.clamp(0, 255).to(torch.uint8))
    return made


def preprocessing(
    channels: int = 3, size: tuple[int, int] | None = (48, 64), keep_aspect: bool = False
) -> Preprocessing:
    return Preprocessing(channels, size, keep_aspect, [0.4, 0.5, 0.6][:channels], [0.2, 0.25, 0.3][:channels])


def difference(task: Any, how: Preprocessing, folder: Path, form: str = "onnx", images: Any = None) -> float:
    """The largest of a few images', as the task measures it."""
    model = Predictor(task, how)
    exported = task.exported()
    writer = {"onnx": onnx_file, "pt2": pt2_file}[form]
    file = folder / f"model.{form}"
    writer.write(Graph(how, exported).eval(), how, command.metadata(model, exported), file)
    run = writer.opened(file)
    images = images or pictures(how.channels)
    pairs = [(image, agreement.predict(model, image)) for image in images]
    values = [agreement.difference(run, exported, image, predicted) for image, predicted in pairs]
    if not exported.one_at_a_time:
        values.append(agreement._together(run, model, exported, images[0]))
    return max(values)
