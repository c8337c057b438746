from itertools import chain

import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.data.loading import BatchSampler

SIZES = {"size": st.integers(1, 60), "batch_size": st.integers(1, 17), "world": st.integers(1, 5)}


@given(**SIZES)
def test_evaluation_visits_each_sample_once_over_all_processes(size, batch_size, world):
    batches = [list(BatchSampler(size, batch_size, rank=rank, world=world)) for rank in range(world)]
    assert sorted(index for index, _ in chain(*chain(*batches))) == list(range(size))
    for rank in range(world):
        assert len(batches[rank]) == len(BatchSampler(size, batch_size, rank=rank, world=world)) >= 1
        assert all(len(batch) <= batch_size for batch in batches[rank])


@given(**SIZES, seed=st.integers(0, 2**31), epoch=st.integers(0, 99))
def test_processes_take_equally_many_steps_on_different_samples(size, batch_size, world, seed, epoch):
    def batches(rank):
        options = {"seed": seed, "epoch": lambda: epoch, "rank": rank, "world": world, "train": True}
        return list(BatchSampler(size, batch_size, **options))

    steps = [batches(rank) for rank in range(world)]
    assert len({len(of_rank) for of_rank in steps}) == 1
    assert all(batch for of_rank in steps for batch in of_rank)
    taken = [index for index, _ in chain(*chain(*steps))]
    assert len(taken) == len(set(taken)) or size < world
    assert batches(0) == steps[0]


def test_order_and_augmentation_depend_on_epoch_and_seed():
    def keys(seed, epoch):
        return list(chain(*BatchSampler(50, 10, seed=seed, epoch=lambda: epoch, train=True)))

    assert keys(0, 0) == keys(0, 0)
    assert keys(0, 0) != keys(0, 1) != keys(1, 0)
    assert len({seed for _, seed in keys(0, 0)} | {seed for _, seed in keys(0, 1)}) == 100


def test_balanced_sampling_draws_classes_equally():
    targets = torch.tensor([0] * 900 + [1] * 100)
    weights = 1.0 / torch.bincount(targets)[targets]
    drawn = [index for index, _ in chain(*BatchSampler(1000, 100, train=True, weights=weights))]
    assert 430 <= sum(index >= 900 for index in drawn) <= 570
