"""The images and classes that are found in folders, and the split of them."""

from pathlib import Path

import pytest

from kit.checks.survey import quick_survey
from kit.ground.errors import UserError
from project.pretraining import ImageFolder


def targets(root: str, split: str) -> list[int]:
    return ImageFolder(root).split(split).targets.tolist()


def test_all_images_are_used_and_those_outside_class_folders_have_no_class(tiny):
    for folder, count in {"photos": 3, "photos/a": 2, "photos/b/more": 4, "photos/b": 1}.items():
        tiny.photos(Path(folder), count)
    data = ImageFolder("photos")
    assert data.class_names == ["a", "b"] and data.class_counts == [-1, -1]
    found = {Path(data.split("train").file(i)).parent: n for i, n in enumerate(targets("photos", "train"))}
    assert found == {Path("photos"): -1, Path("photos/a"): 0, Path("photos/b"): 1, Path("photos/b/more"): 1}
    assert len(data.split("train")) == 10
    assert not [fault for fault in quick_survey(data).faults if fault.kind.startswith(("class", "label"))]
    tiny.photos(Path("one/a"), 2)
    tiny.photos(Path("one"), 1)
    assert ImageFolder("one").class_names == ["image"] and targets("one", "train") == [0, 0, 0]


def test_the_classes_are_those_of_train(tiny):
    for folder in ("train/a", "train/b", "train", "val", "test/b", "test/c"):
        tiny.photos(Path("photos") / folder, 2)
    assert targets("photos", "train") == [-1, -1, 0, 0, 1, 1] and targets("photos", "val") == [-1, -1]
    assert targets("photos", "test") == [1, 1, -1, -1]
    Path("photos/valid").mkdir()
    with pytest.raises(UserError, match="both stand for val"):
        ImageFolder("photos")


@pytest.mark.filterwarnings("ignore:photos")
def test_images_beside_the_splits_are_warned_about(tiny):
    for folder in ("train/a", "train/b", "unlabelled/more", "."):
        tiny.photos(Path("photos") / folder, 1)
    with pytest.warns(UserWarning, match="photos/unlabelled: not used, .* rename or remove it"):
        data = ImageFolder("photos")
    with pytest.warns(UserWarning, match=r"photos: 1 image\(s\) beside .* move them into train"):
        ImageFolder("photos")
    assert [fault.file for fault in data.annotation_faults()] == ["photos/unlabelled", "photos"]
    assert len(data.split("train")) == 2
    Path("photos/test").mkdir()
    with pytest.raises(UserError, match=r"no images in photos/test .* remove the folder"):
        targets("photos", "test")


@pytest.mark.parametrize("cache", ["none", "ram"])
def test_a_tenth_of_all_images_validates_with_many_small_folders(tiny, cache):
    for number in range(20):
        tiny.photos(Path(f"photos/{number}"), 2)
    data = ImageFolder("photos", cache=cache, balanced=True, batch_size=5, num_workers=0)
    data.setup("fit")
    assert (len(data.samples["train"]), len(data.samples["val"]), data.num_classes) == (36, 4, 20)
    assert len(next(iter(data.train_dataloader())).targets) == 5
