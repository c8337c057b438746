"""Draw pictures of samples with their predictions, by the task's method `draw`."""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import numpy as np
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor
from torchvision.transforms.v2.functional import pad, resize

from kit.dashboard.charts import draw_chart
from kit.data import Batch, ImageDataModule
from kit.ground._torch import is_compiled
from kit.ground.drawing import BACKGROUND, GREY, add_caption, shortened, side_by_side, stacked, text_size

WIDTH = 700  # the width of a picture of several samples, in pixels; TensorBoard shrinks it to 284 pixels
MAX_HEIGHT = 1.6 * WIDTH  # the largest height of such a picture, in pixels
TEXT_SIZE = 20  # the size of the texts in such a picture, in pixels
GAP = 8  # pixels between samples
WIDE = 1.6  # a sample whose drawing has a higher ratio of width to height gets a row of its own


class Sample(NamedTuple):
    """A sample to draw.

    image: uint8 [C H W].
    target, prediction: see `Task.draw`.
    caption: lines below the picture.
    """

    image: Tensor
    target: Any
    prediction: Any = None
    caption: Sequence[str] = ()


def draw_samples(task: Any, samples: Sequence[Sample]) -> Tensor:
    """Return a picture of samples in rows, uint8 [3 H W]. It is about square, and W is at most `WIDTH`.

    Wide drawings, such as those with several panels, have a row each. Rows that exceed `MAX_HEIGHT` are left out.
    """
    image, target, prediction, _ = samples[0]
    _, height, width = task.draw(image, prediction, target).shape
    ratio = width / height
    columns = 1 if ratio > WIDE else min(len(samples), max(1, round((len(samples) / ratio) ** 0.5)))
    cell_width = max(1, (WIDTH + GAP) // columns - GAP)
    with text_size(TEXT_SIZE):
        cells = [_draw_cell(task, sample, cell_width) for sample in samples]
    width = max(cell.shape[2] for cell in cells)
    cells = [pad(cell, [0, 0, width - cell.shape[2], 0], fill=BACKGROUND) for cell in cells]
    rows = [side_by_side(cells[start : start + columns], GAP) for start in range(0, len(cells), columns)]
    ends = accumulate(row.shape[1] + GAP for row in rows)
    return stacked([row for row, end in zip(rows, ends, strict=True) if end <= MAX_HEIGHT or row is rows[0]], GAP)


def _draw_cell(task: Any, sample: Sample, width: int) -> Tensor:
    """Return a picture of a sample with its caption, uint8 [3 h w]. Without the caption, w is at most `width`."""
    image, target, prediction, caption = sample
    cell = task.draw(image, prediction, target)
    scale = min(width / cell.shape[2], 2 * width / cell.shape[1])
    if scale < 1:
        with text_size(round(TEXT_SIZE / scale)):
            cell = task.draw(image, prediction, target)
        # Larger texts may have changed the size.
        scale = min(width / cell.shape[2], 2 * width / cell.shape[1], 1)
        cell = resize(cell, [max(1, round(side * scale)) for side in cell.shape[1:]])
    return add_caption(cell, [(shortened(line, width), GREY) for line in caption]) if caption else cell


def batch_samples(data: ImageDataModule, batch: Batch, max_count: int) -> list[Sample]:
    """Return the first samples of a normalised batch, at most `max_count`."""
    images = data.preprocessing.pixels(batch.images[:max_count].detach()).cpu()
    targets = move_data_to_device(batch.targets[:max_count], "cpu")
    return [Sample(image, target) for image, target in zip(images, targets, strict=True)]


def sample_pictures(task: Any, data: ImageDataModule, max_count: int, split: str) -> dict[str, Tensor]:
    """Return pictures by name, uint8 [3 H W].

    `predictions` are evenly spaced samples, the same at every call. `worst` are samples of the latest evaluation.
    `generated` are images that the task generates. Pictures that the task cannot draw are left out. The module must be
    in evaluation mode. The random state is kept.

    Args:
        max_count: the largest number of samples in a picture.
        split: the split that was evaluated.
    """
    pictures: dict[str, Tensor] = {}
    if task.has("predict") and task.has("draw"):
        indices = evenly_spaced(len(data.samples[split] or ()), max_count)
        groups = {
            "predictions": predict_samples(task, data, indices, split),
            "worst": worst_samples(task, data, max_count, split),
        }
        pictures = {name: draw_samples(task, samples) for name, samples in groups.items() if samples}
    if data.preprocessing.size and task.has("draw_generated"):
        with text_size(TEXT_SIZE):
            pictures["generated"] = task.draw_generated(data.preprocessing.size)
    return pictures


def chart_pictures(task: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and the picture of each chart of the latest evaluation, uint8 [3 H W]."""
    for name, chart in task.latest_evaluation.charts().items() if task.latest_evaluation else ():
        yield name, draw_chart(chart)


def worst_samples(task: Any, data: ImageDataModule, max_count: int, split: str = "val") -> list[Sample]:
    """Return the worst samples of the evaluation `task.latest_evaluation`, worst first, by `Evaluation.badness`.

    The caption of a sample is its file, and the name and the value of the measure.
    """
    badness = task.latest_evaluation.badness() if task.latest_evaluation else None
    if not badness:
        return []
    name, values = badness
    worst = values.argsort(descending=True, stable=True)[:max_count]
    keys = task.latest_evaluation.keys[worst]
    files = ["/".join(Path(file).parts[-2:]) for file in data.files(keys, split)]
    samples = zip(predict_samples(task, data, keys.tolist(), split), files, values[worst], strict=True)
    return [sample._replace(caption=(file, f"{name} {value:.2f}")) for sample, file, value in samples]


def predict_samples(task: Any, data: ImageDataModule, keys: Sequence[int], split: str = "val") -> list[Sample]:
    """Return samples of a split with the task's predictions, and leave the random state untouched.

    The module must be in evaluation mode. `keys` are the indices of the samples in the split.
    """
    samples, trainer = [], task.trainer
    # A compiled net would be compiled again for another batch size, which takes a minute.
    compiled = is_compiled(trainer.lightning_module)
    with isolate_rng(), torch.no_grad(), torch.compiler.set_stance("force_eager") if compiled else nullcontext():
        for batch in data.examples(split, keys):
            images = trainer.strategy.batch_to_device(batch._replace(targets=[])).images  # normalised
            size = (int(images.shape[2]), int(images.shape[3]))
            with trainer.precision_plugin.val_step_context():
                (prediction,) = task.predict(images, [size], [size])
            samples.append(Sample(batch.images[0], batch.targets[0], prediction))
    return samples


def has_whole_net(trainer: L.Trainer) -> bool:
    """Return whether each process has the whole net, so that one process can run it alone."""
    return isinstance(trainer.strategy, (SingleDeviceStrategy, DDPStrategy))


def evenly_spaced(count: int, max_count: int) -> list[int]:
    """Return at most `max_count` evenly spaced indices from 0 to `count - 1`."""
    return np.linspace(0, count - 1, min(count, max_count)).round().astype(int).tolist()
