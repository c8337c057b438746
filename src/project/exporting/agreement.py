"""Whether a file gives what PyTorch gives, and which is faster."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from project.exporting.protocol import Exported
from project.prediction import Predictor

Run = Callable[[Tensor], dict[str, Tensor]]  # uint8 [B H W C] to the file's outputs
TIMINGS, SECONDS = 60, 10.0  # at most, of each


class Comparison(NamedTuple):
    """
    largest: the largest difference on any image, as the task measures it.
    things: of what is counted, how many there were.
    """

    largest: float
    things: int


def compared(run: Run, model: Predictor, exported: Exported, images: Sequence[Tensor]) -> Comparison:
    """A file's answers to images, uint8 [C H W] of any size, with PyTorch's."""
    predicted = [predict(model, image) for image in images]
    pairs = zip(images, predicted, strict=True)
    differences = [difference(run, exported, image, expected) for image, expected in pairs]
    if not exported.one_at_a_time:
        differences.append(_together(run, model, exported, images[0]))
    return Comparison(_largest(differences), sum(exported.count(one) for one in predicted))


def latencies(run: Run, model: Predictor, images: Sequence[Tensor]) -> tuple[float, float]:
    """The file's and PyTorch's for one image on the processor, in ms, from its pixels to the answer: medians.

    In turns, so that whatever else the machine does meets both.
    """
    inputs = [as_input(image) for image in images]
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + SECONDS
    for number in range(TIMINGS):
        if number >= len(images) and time.perf_counter() > end:
            break
        place = number % len(images)
        times[0].append(_milliseconds(partial(run, inputs[place])))
        times[1].append(_milliseconds(partial(predict, model, images[place])))
    return statistics.median(times[0]), statistics.median(times[1])


def predict(model: Predictor, image: Tensor) -> Any:
    """What `model.predict` gives for uint8 [C H W], without its threads, which read files."""
    pixels, size = model.preprocessing.read(image)
    return model.predict_read(pixels[None], [size])[0]


def difference(run: Run, exported: Exported, image: Tensor, predicted: Any) -> float:
    found = run(as_input(image))
    return exported.difference(found if exported.one_at_a_time else _of(found, 0), predicted)


def as_input(image: Tensor) -> Tensor:
    """uint8 [C H W] to uint8 [1 H W C]."""
    return image.permute(1, 2, 0)[None].contiguous()


def _together(run: Run, model: Predictor, exported: Exported, image: Tensor) -> float:
    """Of a batch of three: a net that was recorded with one number of images may take no other."""
    several = [image, image.flip(2), image.flip(1)]
    found = run(torch.cat([as_input(one) for one in several]))
    return _largest([exported.difference(_of(found, i), predict(model, one)) for i, one in enumerate(several)])


def _of(found: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    return {name: tensor[place] for name, tensor in found.items()}


def _largest(differences: Sequence[float]) -> float:
    return max((math.inf if math.isnan(value) else value for value in differences), default=0.0)


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)
