"""Samples of a data module as a task draws them."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn
from torch.nn import functional as F

from kit.data import Batch, ImageDataModule
from kit.evaluation import Evaluation
from kit.ground._torch import is_compiled
from kit.ground.drawing import GREY, add_caption, grid

WIDTH = 1600  # of a picture of several samples, in pixels
MOST_PIXELS = 1.2e6  # of one


class Sample(NamedTuple):
    """image: uint8 [C H W]; predicted and target as the task's `draw` takes them; caption: what stands below."""

    image: Tensor
    target: Any
    predicted: Any = None
    caption: str = ""


def picture(task: Any, samples: Sequence[Sample], width: int = WIDTH) -> Tensor:
    """All of them in rows, uint8 [3 H W], no larger than `MOST_PIXELS` or so."""
    cells = []
    for image, target, predicted, caption in samples:
        drawn = task.draw(image, predicted, target)
        cells.append(add_caption(drawn, [(caption, GREY)]) if caption else drawn)
    pixels = sum(cell[0].numel() for cell in cells)
    scale = min(1, (MOST_PIXELS / pixels) ** 0.5, *(width / cell.shape[2] for cell in cells))
    return grid([_scaled(cell, scale) for cell in cells], width)


def as_the_net_sees(data: ImageDataModule, batch: Batch, most: int) -> list[Sample]:
    """The first samples of a batch that is on its way into the net."""
    images = data.preprocessing.pixels(batch.images[:most].detach()).cpu()
    return [Sample(image, _on_cpu(target)) for image, target in zip(images, batch.targets, strict=False)]


def look(trainer: L.Trainer, task: Any, data: ImageDataModule, most: int) -> dict[str, list[Sample]]:
    """The same few validation samples each time, and the worst, with what the task makes of them; of each tag."""
    wanted = {"samples/validation": spread(len(data.samples["val"] or ()), most)}
    captions = worst(task.measured, data, most)
    if captions:
        wanted["samples/worst"] = list(captions)
    made = iter(predicted(trainer, task, data, [key for some in wanted.values() for key in some]))
    samples = {tag: [next(made) for _ in some] for tag, some in wanted.items()}
    for place, caption in enumerate(captions.values()):
        samples["samples/worst"][place] = samples["samples/worst"][place]._replace(caption=caption)
    return samples


def worst(evaluation: Evaluation | None, data: ImageDataModule, most: int, split: str = "val") -> dict[int, str]:
    """The keys of the worst samples, the worst first, and what stands below each: its file, and how bad it is."""
    if not evaluation or (badness := evaluation.badness()) is None:
        return {}
    name, values = badness
    ranked = values.argsort(descending=True, stable=True)[:most]
    keys = evaluation.keys[ranked]
    told = [
        f"{short(file)}: {name} {values[rank]:.2f}" for rank, file in zip(ranked, data.files(keys, split), strict=True)
    ]
    return dict(zip(keys.tolist(), told, strict=True))


def predicted(
    trainer: L.Trainer, task: Any, data: ImageDataModule, keys: Sequence[int], split: str = "val"
) -> list[Sample]:
    """Samples of a split, and what the task makes of them as it is. It draws no random number and changes nothing.

    The module is in evaluation mode, and averaged weights are in their place, since a validation is under way.
    """
    made = []
    examples = data.examples(split, keys)
    together = data.batch_size if len({batch.images.shape for batch in examples}) == 1 else 1
    with isolate_rng(), torch.no_grad(), _uncompiled(trainer.lightning_module):
        for start in range(0, len(examples), together):
            some = examples[start : start + together]
            raw = Batch(torch.cat([batch.images for batch in some]), [], torch.cat([batch.keys for batch in some]))
            images = trainer.strategy.batch_to_device(raw).images  # normalised
            size = (int(images.shape[2]), int(images.shape[3]))
            with trainer.precision_plugin.val_step_context():
                made += task.predict(images, [size] * len(images), [size] * len(images))
    return [Sample(batch.images[0], batch.targets[0], one) for batch, one in zip(examples, made, strict=True)]


def _uncompiled(module: nn.Module) -> AbstractContextManager[Any]:
    """A compiled net would be compiled anew for another number of images, in a minute."""
    return torch.compiler.set_stance("force_eager") if is_compiled(module) else nullcontext()


def spread(count: int, most: int) -> list[int]:
    """At most so many of the places from 0, evenly spaced."""
    if count <= most:
        return [*range(count)]
    return [round((place + 0.5) * count / most - 0.5) for place in range(most)]


def short(file: str) -> str:
    """A file's name with its folder's; other names as they are."""
    return "/".join(Path(file).parts[-2:])


def _on_cpu(target: Any) -> Any:
    if isinstance(target, Tensor):
        return target.cpu()
    return {key: _on_cpu(value) for key, value in target.items()} if isinstance(target, dict) else target


def _scaled(image: Tensor, scale: float) -> Tensor:
    if scale == 1:
        return image
    size = [max(1, round(side * scale)) for side in image.shape[1:]]
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
