"""How batches are divided, whatever they look like."""

from collections import namedtuple

import pytest
import torch

from kit.data import Batch
from kit.safeguards.memory.parts import Logs, count, joined, split

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
    "a tuple in it": (Pair(Pair(FIVE, IMAGES), FIVE), Pair(Pair(FIVE[2:], IMAGES[2:]), FIVE[2:])),
    "lists of one entry a sample": ((list(IMAGES), BOXES), (list(IMAGES)[2:], BOXES[2:])),
    "tuples of one entry a sample": ((tuple(IMAGES), tuple(BOXES)), (tuple(IMAGES)[2:], tuple(BOXES)[2:])),
    "a list of samples": ([(image, 1) for image in IMAGES], [(image, 1) for image in IMAGES[2:]]),
    "two views": (([IMAGES, IMAGES + 1], FIVE), ([IMAGES[2:], IMAGES[2:] + 1], FIVE[2:])),
    "what belongs to no sample": ((IMAGES, 7, "name", torch.tensor(2)), (IMAGES[2:], 7, "name", torch.tensor(2))),
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
def test_split(name):
    batch, second = BATCHES[name]
    assert count(batch) == 5
    parts = split(batch, 2)
    assert [count(part) for part in parts] == [2, 3]
    assert same(parts[1], second)
    assert [count(part) for part in split(batch, 5)] == [1] * 5


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (7, "int has no samples"),
        (iter([1]), "has no samples"),
        ((IMAGES, torch.zeros(8, 6)), r"a tensor of \[8, 6\] in a batch of 5 samples"),
        (
            (torch.zeros(3, 4), [torch.zeros(3, 2), torch.zeros(3, 2), torch.zeros(3, 2)]),
            "one a sample, or each for all",
        ),
    ],
)
def test_what_cannot_be_divided_without_a_guess_is_refused(batch, said):
    with pytest.raises(TypeError, match=said):
        split(batch, 2)


def test_joined():
    two = torch.tensor([1.0, 2.0]), torch.tensor([3.0])
    assert same(joined(two, [2, 1]), torch.tensor([1.0, 2.0, 3.0]))
    assert same(joined([{"a": [1, 2], "n": None}, {"a": [3], "n": None}], [2, 1]), {"a": [1, 2, 3], "n": None})
    assert joined([torch.tensor(1.0), torch.tensor(4.0)], [2, 1]) == 2
    assert same(joined([Pair(two[0], 1.0), Pair(two[1], 4.0)], [2, 1]), Pair(torch.tensor([1.0, 2.0, 3.0]), 2.0))


def test_what_is_logged_over_parts_is_a_mean_over_samples():
    class Module:
        def log(self, *args, **options):
            said.append((args, options))

    said, logs, metric = [], Logs(), object()
    for samples, loss in ((3, 1.0), (1, 5.0)):
        logs.take("loss", torch.tensor(loss), True, batch_size=samples)
        logs.take("metric", metric)
        logs.keep(samples)
    logs.take("loss", 99.0)
    logs.drop()
    logs.log(Module())
    assert said == [(("loss", torch.tensor(2.0), True), {"batch_size": 4}), (("metric", metric), {})]
