import pytest
import torch

from kit.data import Tensors
from kit.formats.boxes.annotation import PackedTargets

SIZES = [(5, 7), (6, 8), (9, 4)]
ROWS = [[((0.5, 1, 2, 3), 2, False), ((1, 1, 4, 4), 1, True)], [], [((0, 0, 3, 8), 3, False)]]


def packed() -> PackedTargets:
    return PackedTargets.of(zip(ROWS, SIZES, strict=True))


def as_lists(targets) -> list[tuple]:
    return [(t["boxes"].tolist(), t["labels"].tolist(), t["crowd"].tolist(), t["size"]) for t in targets]


EXPECTED = [
    ([[0.5, 1, 2, 3], [1, 1, 4, 4]], [2, 1], [False, True], (5, 7)),
    ([], [], [], (6, 8)),
    ([[0, 0, 3, 8]], [3], [False], (9, 4)),
]


def test_each_image_has_its_own_boxes():
    targets = packed()
    assert len(targets) == 3 and as_lists(targets) == EXPECTED
    assert targets[1]["boxes"].shape == (0, 4)
    assert targets.images.tolist() == [0, 0, 2]
    with pytest.raises(IndexError):
        targets[3]


@pytest.mark.parametrize("index", [[2, 0], [1], [], [0, 1, 2]])
def test_a_part_has_the_boxes_of_its_images(index):
    part = packed()[torch.tensor(index, dtype=torch.long)]
    assert as_lists(part) == [EXPECTED[i] for i in index]
    assert as_lists(packed()[:2]) == EXPECTED[:2]


def test_dicts_are_packed_and_packed_targets_stay():
    targets = packed()
    assert PackedTargets.pack(targets) is targets
    assert as_lists(PackedTargets.pack([*targets])) == EXPECTED
    assert len(PackedTargets.pack([])) == 0 and PackedTargets.pack([]).boxes.shape == (0, 4)


def test_changing_a_target_changes_no_other():
    targets = packed()
    targets[0]["boxes"] += 1
    assert as_lists(targets) == EXPECTED


@pytest.mark.parametrize("name", ["boxes", "labels", "crowd", "counts", "sizes"])
def test_fingerprint_changes_with_every_tensor(name):
    changed = packed()
    tensor = getattr(changed, name)
    tensor.copy_(tensor == 0)
    prints = [Tensors(targets, torch.zeros(3, 1, 2, 2)).fingerprint() for targets in (packed(), packed(), changed)]
    assert prints[0] == prints[1] and prints[0].keys() == prints[2].keys()
    assert {key for key in prints[0] if prints[0][key] != prints[2][key]} == {"annotations"}
