import torch

from kit.boxes.predictions import draw_boxes
from kit.ground.drawing import GREY, class_colour

NAMES = ["cat", "dog"]
IMAGE = torch.zeros(3, 300, 260, dtype=torch.uint8)


def has(image, wanted):
    return bool((image == torch.tensor(wanted, dtype=torch.uint8)[:, None, None]).all(0).any())


def boxes(*rows):
    return torch.tensor(rows, dtype=torch.float).reshape(-1, 4)


def test_boxes_have_their_place_and_colour():
    target = {"boxes": boxes((50, 60, 150, 200)), "labels": torch.tensor([2])}
    drawn = draw_boxes(IMAGE, NAMES, target=target)
    assert drawn.shape == IMAGE.shape
    ink = torch.tensor(class_colour(1), dtype=torch.uint8)
    assert torch.equal(drawn[:, 130, 50], ink) and torch.equal(drawn[:, 200, 100], ink)
    assert not drawn[:, 130, 100].any() and not drawn[:, 10, 10].any()


def test_small_image_and_boxes_are_enlarged():
    target = {"boxes": boxes((2, 3, 10, 12)), "labels": torch.tensor([1])}
    drawn = draw_boxes(torch.zeros(1, 24, 30, dtype=torch.uint8), NAMES, target=target)
    assert drawn.shape == (3, 240, 300)
    assert torch.equal(drawn[:, 80, 20], torch.tensor(class_colour(0), dtype=torch.uint8))
    assert not drawn[:, 80, 60].any()


def test_target_is_left_and_prediction_right():
    target = {"boxes": boxes((50, 60, 150, 200)), "labels": torch.tensor([1])}
    found = {"boxes": boxes((50, 60, 150, 200)), "scores": torch.tensor([0.9]), "labels": torch.tensor([2])}
    drawn = draw_boxes(IMAGE, NAMES, found, target)
    left, right = drawn[..., :260], drawn[..., 264:]
    assert has(left, class_colour(0)) and not has(left, class_colour(1))
    assert has(right, class_colour(1)) and not has(right, class_colour(0))


def test_low_scores_are_left_out_and_crowds_are_grey():
    found = {"boxes": boxes((5, 6, 15, 20)), "scores": torch.tensor([0.2]), "labels": torch.tensor([2])}
    assert not has(draw_boxes(IMAGE, NAMES, found), class_colour(1))
    target = {"boxes": boxes((50, 60, 150, 200)), "labels": torch.tensor([1]), "crowd": torch.tensor([True])}
    drawn = draw_boxes(IMAGE, NAMES, target=target)
    assert has(drawn, GREY) and not has(drawn, class_colour(0))


def test_images_without_boxes():
    nothing = {"boxes": boxes(), "labels": torch.zeros(0, dtype=torch.long)}
    assert torch.equal(draw_boxes(IMAGE, NAMES, target=nothing), IMAGE)
    assert torch.equal(draw_boxes(IMAGE, NAMES), IMAGE)
    both = draw_boxes(IMAGE, NAMES, {**nothing, "scores": torch.zeros(0)}, nothing)
    assert both.shape[2] == 2 * 260 + 4
