from pathlib import Path

import pytest
import torch
from PIL import Image

from kit.data.datamodule import evaluated_split
from kit.ground.errors import UserError
from project.generation import Digits, ImageFolder


def shown(data, loader):
    """A loader's batches as the task gets them."""
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]


def test_digits_are_from_minus_one_to_one_in_disjoint_splits():
    data = Digits(batch_size=500)
    data.setup("fit")
    assert (len(data.samples["train"]), len(data.samples["val"]), len(data.samples["test"])) == (1295, 143, 359)
    batch = shown(data, data.train_dataloader())[0]
    assert float(batch.images.min()) == -1 and float(batch.images.max()) == 1 and batch.images.shape[1:] == (1, 8, 8)
    parts = [{image.numpy().tobytes() for image in data.samples[part].images} for part in ("train", "val", "test")]
    assert not parts[0] & parts[1] and not parts[0] & parts[2] and not parts[1] & parts[2]


def test_images_cached_on_disk_are_from_minus_one_to_one():
    data = Digits(batch_size=500, cache="disk", cache_dir="cache")
    data.prepare_data()  # Lightning calls this before `setup`
    data.setup("fit")
    assert (data.mean, data.std) == ([0.5], [0.5])


def test_test_also_has_the_training_images():
    data = Digits(batch_size=500)
    data.setup("test")
    images, classes = data.images("train", range(1295))
    assert torch.equal(images, data.samples["train"].images) and torch.equal(classes, data.samples["train"].targets)
    some, _ = data.images("test", [7, 3])
    assert torch.equal(some, data.samples["test"].images[[7, 3]])


def test_other_mean_and_std_are_refused():
    with pytest.raises(UserError, match=r"leave out data\.mean and data\.std"):
        Digits(mean=[0.1], std=[0.5])
    Digits(mean=[0.5], std=[0.5])


def painted(*names: str) -> None:
    for place, name in enumerate(names):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (9, 7), (20 * place, 200, 0)).save(name)


def test_folders_of_classes():
    painted(*(f"photos/{part}/{kind}/{n}.png" for part in ("train", "test") for kind in "ab" for n in range(4)))
    data = ImageFolder("photos", image_size=(6, 8))
    data.setup("fit")
    assert data.class_names == ["a", "b"] and data.in_channels == 3 and data.mean == [0.5] * 3
    assert data.samples["test"].targets.tolist() == [0] * 4 + [1] * 4
    assert data.preprocessing.size == (6, 8)


@pytest.mark.parametrize("below", ["", "train/"])
def test_images_without_class_folders(below):
    painted(*(f"photos/{below}{n}.png" for n in range(9)))
    data = ImageFolder("photos", image_size=(6, 8))
    data.setup("fit")
    assert data.class_names == ["image"]
    assert len(data.samples["train"]) == 8 and len(data.samples["val"]) == 1
    assert evaluated_split(data) == "val"


def test_invalid_folders_are_one_line():
    with pytest.raises(UserError, match="no data folder"):
        ImageFolder("gone")
    Path("empty").mkdir()
    with pytest.raises(UserError, match="no images in empty"):
        ImageFolder("empty").setup("fit")
    painted("photos/train/a/1.png", "photos/train/b/1.png", "photos/test/c/1.png")
    with pytest.raises(UserError, match=r"photos/test/c: training has no class 'c'"):
        ImageFolder("photos").setup("fit")


def test_folder_without_images_is_no_class():
    painted("photos/a/1.png", "photos/2.png", "photos/3.png")
    Path("photos/empty").mkdir()
    data = ImageFolder("photos")
    assert data.class_names == ["a"] and len(data.split("train")) == 1
    assert {fault.file for fault in data.annotation_faults()} == {"photos/2.png", "photos/3.png"}
