"""Compare the outputs of an exported file with PyTorch's, and measure which is faster."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kit.exporting.file_formats import Run
from kit.exporting.protocol import Exported, ExportedMaker
from kit.prediction import Predictor

BATCH = 3  # a net that was recorded with one number of images may not accept another
MAX_TIMINGS, MAX_SECONDS = 60, 10.0


class Case(NamedTuple):
    """An input of a file, and the output to expect.

    inputs: the file's inputs for one image, each with a batch dimension.
    expected: computes PyTorch's output.
    """

    inputs: tuple[Tensor, ...]
    expected: Callable[[], Any]


class Cases(NamedTuple):
    """Inputs that a file is tried on.

    single: cases that are run one by one.
    batch: cases that are also run as one batch.
    description: what they are, as `12 images of test`.
    """

    single: list[Case]
    batch: list[Case]
    description: str


class Comparison(NamedTuple):
    """The result of comparing a file's outputs with PyTorch's.

    largest: the largest difference on any image, as the task measures it.
    objects: the number of objects that the task counts (`Exported.counted`).
    """

    largest: float
    objects: int


def image_cases(model: Predictor, images: Sequence[Tensor], description: str = "") -> Cases:
    """Return cases for images, uint8 [C H W], of any size."""
    first = images[0]
    flipped = [first, first.flip(2), first.flip(1)]  # a batch needs images of one size

    def cases(chosen: Sequence[Tensor]) -> list[Case]:
        return [Case((as_input(image),), partial(predict_image, model, image)) for image in chosen]

    return Cases(cases(images), cases(flipped), description)


def generation_cases(model: Predictor, exported: ExportedMaker, count: int) -> Cases:
    """Return cases for a task that generates images."""
    inputs_of_each = zip(*(tensor.split(1) for tensor in exported.example(model.preprocessing, count)), strict=True)
    cases = [Case(inputs, partial(exported.answer, model.task, *inputs)) for inputs in inputs_of_each]
    return Cases(cases, cases[:BATCH], f"{count} samples")


def predict_image(model: Predictor, image: Tensor) -> Any:
    """Return the model's prediction for uint8 [C H W], without the threads of `model.predict`, which read files."""
    pixels, size = model.preprocessing.read(image)
    return model.predict_pixels(pixels[None], [size])[0]


def as_input(image: Tensor) -> Tensor:
    """Convert uint8 [C H W] to uint8 [1 H W C]."""
    return image.permute(1, 2, 0)[None].contiguous()


def compare(run: Run, exported: Exported, cases: Cases) -> Comparison:
    """Compare a file's outputs with PyTorch's."""
    expected = [case.expected() for case in cases.single]
    pairs = zip(cases.single, expected, strict=True)
    differences = [difference(run, exported, case, prediction) for case, prediction in pairs]
    if not exported.one_at_a_time:
        differences.append(_batch_difference(run, exported, cases.batch))
    return Comparison(_largest(differences), sum(exported.count(prediction) for prediction in expected))


def measure_latencies(run: Run, cases: Cases) -> tuple[float, float]:
    """Return the median time for one image on the CPU in milliseconds, of the file and of PyTorch.

    They are timed in turns, so that other programs on the machine slow down both.
    """
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + MAX_SECONDS
    for number in range(MAX_TIMINGS):
        if number >= len(cases.single) and time.perf_counter() > end:
            break
        case = cases.single[number % len(cases.single)]
        times[0].append(_milliseconds(partial(run, *case.inputs)))
        times[1].append(_milliseconds(case.expected))
    return statistics.median(times[0]), statistics.median(times[1])


def difference(run: Run, exported: Exported, case: Case, expected: object) -> float:
    """Return the difference between a file's output and PyTorch's for one case, as the task measures it."""
    outputs = run(*case.inputs)
    return exported.difference(outputs if exported.one_at_a_time else _select(outputs, 0), expected)


def _batch_difference(run: Run, exported: Exported, cases: Sequence[Case]) -> float:
    outputs = run(*(torch.cat(tensors) for tensors in zip(*(case.inputs for case in cases), strict=True)))
    return _largest([exported.difference(_select(outputs, i), case.expected()) for i, case in enumerate(cases)])


def _select(outputs: Mapping[str, Tensor], index: int) -> dict[str, Tensor]:
    return {name: tensor[index] for name, tensor in outputs.items()}


def _largest(differences: Sequence[float]) -> float:
    return max((math.inf if math.isnan(value) else value for value in differences), default=0.0)


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)
