"""Test how torchvision's data sets are opened and read."""

import pytest
import torch
from PIL import Image

from kit.data import Tensors
from kit.data.torchvision_data import TorchvisionDataModule, open_split
from kit.ground.errors import UserError


class BySplit:
    def __init__(self, root, split):
        if split != "train":
            raise ValueError(f"no {split}")


class WithValid:
    def __init__(self, root, split):
        if split not in ("train", "valid"):
            raise ValueError(f"no {split}")


class ByTrain:
    def __init__(self, root, train, *, year, download=False):
        self.train = train


def test_split_is_named_as_the_data_set_names_it():
    assert isinstance(open_split(BySplit, "train", "data", True), BySplit)
    assert open_split(BySplit, "val", "data", True) is open_split(BySplit, "test", "data", True) is None
    assert isinstance(open_split(WithValid, "val", "data", True), WithValid)
    assert open_split(WithValid, "test", "data", True) is None
    assert open_split(lambda **kwargs: ByTrain(year=1, **kwargs), "test", "data", True).train is False


def test_missing_argument_of_the_data_set_is_named():
    with pytest.raises(UserError, match="year"):
        open_split(ByTrain, "train", "data", True)


@pytest.mark.parametrize("split", ["val", "test"])
def test_mistake_in_one_split_is_not_a_missing_split(split):
    def create(root, split):
        if split != "train":
            float(f"{root}/{split}/labels.csv")

    open_split(create, "train", "data", False)
    with pytest.raises(ValueError, match=r"could not convert"):
        open_split(create, split, "data", False)


class InMemory:
    """Six grey images of 2x3 pixels in memory, with the values 0 to 5."""

    def __init__(self, root, train):
        self.targets = [0, 1, 2, 0, 1, 2]
        self.data = torch.arange(6, dtype=torch.uint8)[:, None, None].expand(6, 2, 3).contiguous()

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return Image.fromarray(self.data[index].numpy()), self.targets[index]


class OnDisk(InMemory):
    def __init__(self, root, train):
        super().__init__(root, train)
        self.pixels = vars(self).pop("data")

    def __getitem__(self, index):
        return Image.fromarray(self.pixels[index].numpy()), self.targets[index]


@pytest.mark.parametrize(
    ("dataset", "size"), [(InMemory, None), (InMemory, (2, 3)), (InMemory, (4, 5)), (OnDisk, (4, 5))]
)
def test_samples_have_the_images_and_labels_of_the_data_set(dataset, size):
    data = TorchvisionDataModule(dataset, image_size=size)
    assert data.class_names == ["0", "1", "2"] and data.in_channels == 1 and data.load_split("val") is None
    samples = data.load_split("train")
    assert isinstance(samples, Tensors) == (size != (4, 5)) and samples.targets.tolist() == [0, 1, 2, 0, 1, 2]
    part = samples.subset(torch.tensor([4, 1]))
    for images, values in ((samples, range(6)), (part, [4, 1])):
        for index, value in enumerate(values):
            assert images.read(index).tolist() == torch.full((1, *(size or (2, 3))), value).tolist()


def test_images_on_disk_need_a_size():
    with pytest.raises(UserError, match=r"data\.image_size is needed"):
        TorchvisionDataModule(OnDisk).load_split("train")
