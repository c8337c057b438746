"""The locations of a detector learn the right boxes."""

import pytest
import torch
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.image_list import ImageList

from kit.zoo.detection import CountingHead, assign_boxes

SIZE = 64, 128


def locations(*strides):
    """Return the anchors of levels with these strides, and a function from (stride, x, y) to a location's index."""
    generator = AnchorGenerator(tuple((stride,) for stride in strides), ((1.0,),) * len(strides))
    maps = [torch.zeros(1, 1, SIZE[0] // stride, SIZE[1] // stride) for stride in strides]
    (anchors,) = generator(ImageList(torch.zeros(1, 3, *SIZE), [SIZE]), maps)
    starts = [sum(maps[i].numel() for i in range(level)) for level in range(len(strides))]
    return anchors, lambda stride, x, y: starts[strides.index(stride)] + y // stride * (SIZE[1] // stride) + x // stride


def test_locations_at_the_centre_learn_the_smallest_box_around_them():
    anchors, index = locations(8)
    boxes = torch.tensor([[0.0, 0, 64, 64], [28, 28, 44, 44]])
    indices = assign_boxes(anchors, boxes)
    assert indices[index(8, 32, 32)] == 1  # in both
    assert (
        indices[index(8, 24, 24)] == 0
    )  # outside of the small one, and less than 12 pixels from the large one's centre
    assert indices[index(8, 48, 32)] == -1  # too far from the centre
    assert (indices >= 0).sum() == 9


@pytest.mark.parametrize(("half_width", "strides"), [(6, [4]), (20, [4, 8]), (40, [8, 16]), (60, [8, 16])])
def test_most_boxes_are_learned_on_two_levels(half_width, strides):
    anchors, index = locations(4, 8, 16)
    x, y = 64, 32  # a location of each level
    indices = assign_boxes(anchors, torch.tensor([[x - half_width, y - 5.0, x + half_width, y + 5.0]]))
    assert [stride for stride in (4, 8, 16) if indices[index(stride, x, y)] == 0] == strides


def test_nothing_is_learned_without_boxes():
    assert assign_boxes(locations(8, 16)[0], torch.zeros(0, 4)).tolist() == [-1] * (8 * 16 + 4 * 8)


def test_one_level_is_matched_as_in_torchvision():
    torch.manual_seed(0)
    backbone = torch.nn.Conv2d(3, 32, 8, 8)
    backbone.out_channels = 32

    class SameMatches(CountingHead):
        def compute_loss(self, targets, outputs, anchors, matched_idxs):
            assert torch.equal(assign_boxes(anchors[0], targets[0]["boxes"]), matched_idxs[0])
            return {"matched": (matched_idxs[0] >= 0).sum()}

    head, anchors = SameMatches(32, 1, 3, 1), AnchorGenerator(((8,),), ((1.0,),))
    net = FCOS(backbone, 3, anchor_generator=anchors, head=head, min_size=SIZE[0], max_size=SIZE[1])
    for _ in range(10):
        corners, sides = torch.rand(6, 2) * torch.tensor([100, 40]), torch.rand(6, 2) * torch.tensor([80, 50]) + 4
        boxes = torch.cat([corners, torch.minimum(corners + sides, torch.tensor([128.0, 64]))], 1)
        target = {"boxes": boxes, "labels": torch.ones(6, dtype=torch.long)}
        assert net([torch.zeros(3, *SIZE)], [target])["matched"] > 0
