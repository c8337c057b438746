"""Batches of any structure are divided into parts."""

from collections import namedtuple

import pytest
import torch

from kit.data import Batch
from kit.ground.memory import DoesNotFit
from kit.safeguards.memory.micro_batches import count_samples, divide

FIVE = torch.arange(5)
IMAGES = torch.arange(5 * 3 * 2 * 4).view(5, 3, 2, 4)
BOXES = [{"boxes": torch.full((n, 4), float(n))} for n in range(5)]
Pair = namedtuple("Pair", "x y")

BATCHES = {  # a batch of five, and its second part of two
    "ours": (Batch(IMAGES, FIVE, FIVE), Batch(IMAGES[2:], FIVE[2:], FIVE[2:])),
    "boxes": (Batch(IMAGES, BOXES, FIVE), Batch(IMAGES[2:], BOXES[2:], FIVE[2:])),
    "a tensor": (IMAGES, IMAGES[2:]),
    "torch's collation": ([IMAGES, FIVE], [IMAGES[2:], FIVE[2:]]),
    "a dict": ({"x": IMAGES, "meta": {"id": FIVE}}, {"x": IMAGES[2:], "meta": {"id": FIVE[2:]}}),
    "nested tuples": (Pair(Pair(FIVE, IMAGES), FIVE), Pair(Pair(FIVE[2:], IMAGES[2:]), FIVE[2:])),
    "lists of one entry a sample": ((list(IMAGES), BOXES), (list(IMAGES)[2:], BOXES[2:])),
    "tuples of one entry a sample": ((tuple(IMAGES), tuple(BOXES)), (tuple(IMAGES)[2:], tuple(BOXES)[2:])),
    "a list of samples": ([(image, 1) for image in IMAGES], [(image, 1) for image in IMAGES[2:]]),
    "two views of each image": (([IMAGES, IMAGES + 1], FIVE), ([IMAGES[2:], IMAGES[2:] + 1], FIVE[2:])),
    "values for all samples": ((IMAGES, 7, "name", torch.tensor(2)), (IMAGES[2:], 7, "name", torch.tensor(2))),
}


def same(one, other) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


@pytest.mark.parametrize("name", BATCHES)
def test_divide(name):
    batch, second = BATCHES[name]
    assert count_samples(batch) == 5
    parts = divide(batch, 2)
    assert [count_samples(part) for part in parts] == [2, 3]
    assert same(parts[1], second)
    assert [count_samples(part) for part in divide(batch, 5)] == [1] * 5


class Fields(dict):
    """A mapping into which pytree does not look."""


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (7, "int has no samples"),
        (iter([1]), "has no samples"),
        ((IMAGES, torch.zeros(8, 6)), r"a tensor of \[8, 6\] in a batch of 5 samples"),
        ((IMAGES, Fields(x=FIVE)), "a Fields in a batch"),
        ((torch.zeros(3, 4), [torch.zeros(3, 2)] * 3), "a list of 3 tensors of length 3"),
    ],
)
def test_batch_that_needs_a_guess_is_refused(batch, message):
    with pytest.raises(DoesNotFit, match=f"{message}.*lower data.batch_size"):
        divide(batch, 2)
