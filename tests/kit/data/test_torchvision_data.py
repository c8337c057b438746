"""Test how torchvision's data sets are opened."""

import pytest

from kit.data.torchvision_data import open_split
from kit.ground.errors import UserError


class BySplit:
    def __init__(self, root, split):
        if split != "train":
            raise ValueError(f"no {split}")


class ByTrain:
    def __init__(self, root, train, *, year, download=False):
        self.train = train


def test_split_is_named_as_the_data_set_names_it():
    assert isinstance(open_split(BySplit, "train", "data", True), BySplit)
    assert open_split(BySplit, "val", "data", True) is open_split(BySplit, "test", "data", True) is None
    assert open_split(lambda **kwargs: ByTrain(year=1, **kwargs), "test", "data", True).train is False


def test_missing_argument_of_the_data_set_is_named():
    with pytest.raises(UserError, match="year"):
        open_split(ByTrain, "train", "data", True)
