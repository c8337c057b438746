"""Batches are divided into parts."""

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
    "torch's collation": ([IMAGES, FIVE], [IMAGES[2:], FIVE[2:]]),
    "a named tuple": (Pair(IMAGES, FIVE), Pair(IMAGES[2:], FIVE[2:])),
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


@pytest.mark.parametrize(
    "batch",
    [
        7,
        IMAGES,
        {"x": IMAGES},
        (),
        (IMAGES, torch.zeros(8, 6)),
        (IMAGES, torch.tensor(2)),
        (IMAGES, [FIVE] * 5),
        [(image, 1) for image in IMAGES],
    ],
)
def test_other_batch_is_refused(batch):
    with pytest.raises(DoesNotFit, match=r"cannot be divided: lower data.batch_size"):
        divide(batch, 2)
