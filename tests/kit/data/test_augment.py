"""Test that our crops equal those of v2, and that an augmentation that does not fit the image size is refused."""

import pytest
import torch
from photos import Photos
from torchvision import tv_tensors
from torchvision.transforms import v2

from kit.cli.settings import explain
from kit.data import RandomShift, RandomZoomIn


def image(height: int, width: int) -> tv_tensors.Image:
    return tv_tensors.Image(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))


def drawn(transform: v2.Transform, pixels: torch.Tensor, seed: int) -> torch.Tensor:
    torch.manual_seed(seed)
    return transform(pixels)


@pytest.mark.parametrize("seed", range(5))
def test_crops_equal_those_of_v2_at_the_image_size(seed):
    pixels = image(64, 64)
    pairs = [
        (RandomShift(0.1), v2.RandomCrop((64, 64), padding=6)),
        (RandomZoomIn((0.6, 1.0)), v2.RandomResizedCrop((64, 64), scale=(0.6, 1.0))),
    ]
    for ours, v2s in pairs:
        assert torch.equal(drawn(ours, pixels, seed), drawn(v2s, pixels, seed))


@pytest.mark.parametrize("transform", [RandomShift(0.3), RandomZoomIn()])
@pytest.mark.parametrize("size", [(1, 1), (12, 31)])
def test_crops_keep_the_image_size(transform, size):
    assert {transform(image(*size)).shape for _ in range(9)} == {(3, *size)}


def test_shift_is_limited_by_its_share():
    pixels = tv_tensors.Image(torch.full((1, 20, 40), 9, dtype=torch.uint8))
    rows, columns = set(), set()
    for seed in range(200):
        moved = drawn(RandomShift(0.1), pixels, seed)[0] == 9
        rows.add(int(moved.any(1).sum()))
        columns.add(int(moved.any(0).sum()))
    assert rows == {18, 19, 20} and columns == set(range(36, 41))


def test_the_border_of_a_shifted_mask_is_ignored():
    pixels, mask = tv_tensors.Image(torch.full((1, 20, 40), 9)), tv_tensors.Mask(torch.full((20, 40), 3))
    ignored = set()
    for seed in range(20):
        moved, moved_mask = drawn(RandomShift(0.2), (pixels, mask), seed)
        assert isinstance(moved_mask, tv_tensors.Mask)
        assert torch.equal(moved_mask, torch.where(moved[0] == 9, 3, 255))
        ignored.add(int((moved_mask == 255).sum()))
    assert max(ignored) > 100


@pytest.fixture
def root(image_folder) -> str:
    return str(image_folder({"train": {"a": 6, "b": 6}, "val": {"a": 1, "b": 1}}))


def test_size_is_printed_only_if_augmentation_changes_it(root, capsys):
    same = Photos(root, augment=[RandomShift(), RandomZoomIn()])
    same.setup("fit")
    assert len(capsys.readouterr().out.splitlines()) == 1  # the line about the data
    other = Photos(root, augment=[v2.RandomCrop((4, 5))])
    other.setup("fit")
    printed = capsys.readouterr().out
    assert printed.count("4x5") == 1 and printed.count("6x8") == 2


def test_crop_larger_than_the_images_is_refused(root):
    data = Photos(root, augment=[v2.RandomCrop((64, 64), padding=6)])
    with pytest.raises(ValueError, match="crop size") as caught:
        data.setup("fit")
    assert all(word in explain(caught.value) for word in ("data.augment", "data.image_size", "RandomShift"))
