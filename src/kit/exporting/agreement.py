"""Whether a file gives what PyTorch gives, and which is faster."""

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from kit.exporting.protocol import Exported
from kit.exporting.questions import Question, Questions

Run = Callable[..., dict[str, Tensor]]  # a question's inputs to the file's outputs
TIMINGS, SECONDS = 60, 10.0  # at most, of each


class Comparison(NamedTuple):
    """
    largest: the largest difference on any image, as the task measures it.
    things: of what is counted, how many there were.
    """

    largest: float
    things: int


def compared(run: Run, exported: Exported, asked: Questions) -> Comparison:
    """A file's answers with PyTorch's."""
    answers = [question.answer() for question in asked.alone]
    pairs = zip(asked.alone, answers, strict=True)
    differences = [difference(run, exported, question, answer) for question, answer in pairs]
    if not exported.one_at_a_time:
        differences.append(_together(run, exported, asked.together))
    return Comparison(_largest(differences), sum(exported.count(one) for one in answers))


def latencies(run: Run, asked: Questions) -> tuple[float, float]:
    """The file's and PyTorch's for one image on the processor, in ms, from what is given to the answer: medians.

    In turns, so that whatever else the machine does meets both.
    """
    times: tuple[list[float], list[float]] = ([], [])
    end = time.perf_counter() + SECONDS
    for number in range(TIMINGS):
        if number >= len(asked.alone) and time.perf_counter() > end:
            break
        question = asked.alone[number % len(asked.alone)]
        times[0].append(_milliseconds(partial(run, *question.inputs)))
        times[1].append(_milliseconds(question.answer))
    return statistics.median(times[0]), statistics.median(times[1])


def difference(run: Run, exported: Exported, question: Question, answer: object) -> float:
    found = run(*question.inputs)
    return exported.difference(found if exported.one_at_a_time else _of(found, 0), answer)


def _together(run: Run, exported: Exported, questions: Sequence[Question]) -> float:
    found = run(*(torch.cat(tensors) for tensors in zip(*(one.inputs for one in questions), strict=True)))
    return _largest([exported.difference(_of(found, i), one.answer()) for i, one in enumerate(questions)])


def _of(found: Mapping[str, Tensor], place: int) -> dict[str, Tensor]:
    return {name: tensor[place] for name, tensor in found.items()}


def _largest(differences: Sequence[float]) -> float:
    return max((math.inf if math.isnan(value) else value for value in differences), default=0.0)


def _milliseconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - started)
