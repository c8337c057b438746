"""Augmentation moves boxes with the image: what a box frames before, it frames after, pixel by pixel."""

import pytest
import torch
from torchvision.transforms import v2

from kit.boxes import Zoom
from kit.boxes.targets import collate, sample
from kit.data.decode import PADDING
from kit.ground.errors import UserError
from project.detection import DigitScenes

SIZE = (48, 64)


def painted(boxes, dark: int = 0):
    """A dark image with a white rectangle in each box."""
    pixels = torch.full((3, *SIZE), dark, dtype=torch.uint8)
    for x1, y1, x2, y2 in boxes:
        pixels[:, y1:y2, x1:x2] = 255
    return sample(
        pixels,
        {
            "boxes": torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
            "labels": torch.arange(1, len(boxes) + 1),
            "crowd": torch.zeros(len(boxes), dtype=torch.bool),
            "size": SIZE,
        },
    )


TRANSFORMS = [
    v2.RandomHorizontalFlip(1.0),
    v2.RandomVerticalFlip(1.0),
    Zoom((1.3, 2.0)),
    Zoom((0.4, 0.8)),
    Zoom((0.5, 2.0)),
    Zoom((0.7, 1.4), ratio=(0.5, 2.0)),
    v2.RandomAffine(0, translate=(0.2, 0.2), scale=(0.8, 1.2)),
    v2.RandomCrop(SIZE, padding=6),
    v2.Compose([v2.RandomHorizontalFlip(0.5), Zoom((0.7, 1.4)), v2.ColorJitter(0.1)]),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("seed", range(4))
def test_boxes_follow_the_image(transform, seed):
    torch.manual_seed(seed)
    images, targets = collate(*zip(transform(*painted([(20, 12, 44, 34)])), strict=True))
    white = images[0].float().mean(0) > 150
    if not len(targets[0]["boxes"]):  # little of it is left
        assert white.sum() < 0.45 * white.numel()
        return
    x1, y1, x2, y2 = targets[0]["boxes"][0].tolist()
    rows, columns = white.any(1).nonzero()[:, 0], white.any(0).nonzero()[:, 0]
    seen = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    assert (seen - torch.tensor([x1, y1, x2, y2])).abs().max() <= 1.01


def test_zoom_keeps_the_size_and_pads_with_grey():
    torch.manual_seed(0)
    image, target = Zoom((0.5, 0.5))(*painted([(0, 0, 64, 48)]))
    assert image.shape == (3, *SIZE) and image.dtype == torch.uint8
    (x1, y1, x2, y2) = target["boxes"][0].int().tolist()
    assert (x2 - x1, y2 - y1) == (32, 24)
    assert (image[:, y1:y2, x1:x2] == 255).all()
    assert (image == PADDING).sum() == 3 * (48 * 64 - 32 * 24)


def test_zoom_drops_hardly_visible_boxes_with_their_rows():
    boxes = [(0, 0, 8, 8), (28, 20, 36, 28), (56, 40, 64, 48)]
    dropped = 0
    for seed in range(20):
        torch.manual_seed(seed)
        _, target = Zoom((2.0, 2.0), min_visible=0.5)(*painted(boxes))
        rows = {key: len(target[key]) for key in ("boxes", "labels", "crowd", "original_boxes")}
        assert len(set(rows.values())) == 1
        for box, annotated, label in zip(target["boxes"], target["original_boxes"], target["labels"], strict=True):
            assert annotated.int().tolist() == list(boxes[int(label) - 1])
            area = float((box[2:] - box[:2]).prod())
            assert area >= 0.5 * 16 * 16 - 1e-3
        dropped += 3 - rows["boxes"]
    assert 20 <= dropped < 60
    torch.manual_seed(0)
    _, target = Zoom()(*painted([]))
    assert target["boxes"].shape == (0, 4) and target["boxes"].canvas_size == SIZE


def test_transform_that_drops_only_boxes_is_refused():
    image, target = painted([(20, 12, 44, 34), (5, 5, 5, 9)])
    with pytest.raises(UserError, match="instead of SanitizeBoundingBoxes"):
        collate(*zip(v2.SanitizeBoundingBoxes()(image, target), strict=True))
    _, targets = collate((image,), (target,))
    assert len(targets[0]["boxes"]) == 1


@pytest.mark.parametrize("transform", [v2.ScaleJitter((24, 36)), v2.RandomZoomOut(p=1), v2.RandomShortestSize([9, 20])])
def test_transform_that_changes_the_size_is_refused(transform):
    data = DigitScenes(scenes=20, image_size=(24, 36), augment=[transform], num_workers=0, batch_size=8)
    data.setup("fit")
    with pytest.raises(UserError, match=r"data\.augment: .* different sizes.*kit\.boxes\.Zoom") as raised:
        next(iter(data.train_dataloader()))
    assert "\n" not in str(raised.value)
