"""Compare the outputs of an exported file with PyTorch's, and measure which is faster."""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, islice
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
    batch: cases that are run as one batch.
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
    single, batch = (
        [Case((as_input(image),), partial(predict_image, model, image)) for image in chosen]
        for chosen in (images, [images[0], images[0].flip(2), images[0].flip(1)])  # a batch needs images of one size
    )
    return Cases(single, batch, description)


def generation_cases(model: Predictor, exported: ExportedMaker, count: int) -> Cases:
    """Return cases for a task that generates images."""
    examples = zip(*(tensor.split(1) for tensor in exported.example(model.preprocessing, count)), strict=True)
    cases = [Case(inputs, partial(exported.answer, model.task, *inputs)) for inputs in examples]
    return Cases(cases, cases[:BATCH], f"{count} samples")


def predict_image(model: Predictor, image: Tensor) -> Any:
    """Return the model's prediction for uint8 [C H W], without the threads of `model.predict`, which read files."""
    pixels, size = model.preprocessing.read(image)
    return model.predict_pixels(pixels[None], [size])[0]


def as_input(image: Tensor) -> Tensor:
    """Convert uint8 [C H W] to uint8 [1 H W C]."""
    return image.permute(1, 2, 0)[None].contiguous()


def compare(run: Run, exported: Exported, cases: Cases) -> Comparison:
    """Compare a file's outputs with PyTorch's, for one image at a time and, if the file takes several, for a batch."""
    differences, counts = [], []
    for batch in [*([case] for case in cases.single), *([] if exported.one_at_a_time else [cases.batch])]:
        outputs = run(*(torch.cat(tensors) for tensors in zip(*(case.inputs for case in batch), strict=True)))
        for index, case in enumerate(batch):
            predicted = case.expected()
            of_case = outputs if exported.one_at_a_time else {name: rows[index] for name, rows in outputs.items()}
            difference = exported.difference(of_case, predicted)
            differences.append(math.inf if math.isnan(difference) else difference)
            counts.append(exported.count(predicted))
    return Comparison(max(differences), sum(counts[: len(cases.single)]))


def measure_latencies(run: Run, cases: Cases) -> tuple[float, float]:
    """Return the median time for one image on the CPU in milliseconds, of the file and of PyTorch.

    They are timed in turns, so that other programs on the machine slow down both.
    """
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + MAX_SECONDS
    for number, case in enumerate(islice(cycle(cases.single), MAX_TIMINGS)):
        if number >= len(cases.single) and time.perf_counter() > end:
            break
        for work, milliseconds in zip((partial(run, *case.inputs), case.expected), times, strict=True):
            started = time.perf_counter()
            work()
            milliseconds.append(1000 * (time.perf_counter() - started))
    return statistics.median(times[0]), statistics.median(times[1])
