import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kit.data.splitting import stratified_split
from kit.ground.errors import UserError

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=80).map(torch.tensor)


@given(labels=LABELS, seed=st.integers(0, 2**31))
def test_parts_are_disjoint_complete_and_stratified(labels, seed):
    larger, smaller = stratified_split(labels, 0.1, seed)
    assert sorted([*larger.tolist(), *smaller.tolist()]) == list(range(len(labels)))
    assert len(larger) and len(smaller)
    for label in labels.unique():
        count = int((labels == label).sum())
        if count > 1:
            assert int((labels[smaller] == label).sum()) == max(1, round(count * 0.1))


@given(data=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), min_size=2, max_size=80), seed=st.integers(0, 99))
def test_groups_are_never_divided(data, seed):
    labels, groups = torch.tensor([label for label, _ in data]), [str(group) for _, group in data]
    if len(set(groups)) < 2:
        with pytest.raises(UserError, match="one group"):
            stratified_split(labels, 0.1, seed, groups)
        return
    larger, smaller = stratified_split(labels, 0.1, seed, groups)
    assert len(larger) and len(smaller)
    assert not {groups[i] for i in larger} & {groups[i] for i in smaller}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("groups", [None, [f"g{i % 10}" for i in range(30)], ["small"] * 3 + ["a"] * 13 + ["b"] * 14])
def test_only_sample_of_a_label_stays_in_the_larger_part(groups, seed):
    labels = torch.tensor([2] + [0, 1] * 14 + [0])
    larger, smaller = stratified_split(labels, 0.1, seed, groups)
    assert 0 in larger.tolist() and len(smaller)


def test_split_depends_on_the_seed():
    labels = torch.arange(100) % 3
    same, again, other = (stratified_split(labels, 0.2, seed)[1].tolist() for seed in (0, 0, 1))
    assert same == again != other


def test_one_sample_cannot_be_split():
    with pytest.raises(UserError, match="1 image"):
        stratified_split(torch.tensor([0]), 0.1, 0)
