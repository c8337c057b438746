import torch

from kit.boxes.pictures import AMBER, draw_boxes
from kit.ground.drawing import GREEN, GREY, RED, class_colour, text_size

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


def detections(*rows):
    """Of rows (box, score, label)."""
    return {"boxes": boxes(*(row[0] for row in rows)), "scores": torch.tensor([row[1] for row in rows]),
            "labels": torch.tensor([row[2] for row in rows])}  # fmt: skip


BOX, OTHER = (50, 60, 150, 200), (170, 20, 230, 90)


def test_errors_have_the_colours_of_the_legend():
    target = {"boxes": boxes(BOX), "labels": torch.tensor([1])}
    for label, colours in ((1, {GREEN}), (2, {RED, AMBER})):
        drawn = draw_boxes(IMAGE, NAMES, detections((BOX, 0.9, label)), target)
        assert drawn.shape[2] == 260 and drawn.shape[1] > 300  # the legend is below the image
        assert {colour for colour in (GREEN, RED, AMBER) if has(drawn[:, :300], colour)} == colours
        assert all(has(drawn[:, 300:], colour) for colour in (GREEN, RED, AMBER))


def test_only_false_lines_are_dashed():
    target = {"boxes": boxes(BOX, OTHER), "labels": torch.tensor([1, 1])}
    missed = draw_boxes(IMAGE, NAMES, detections(), target)
    false = draw_boxes(IMAGE, NAMES, detections((BOX, 0.9, 1)), {"boxes": boxes(), "labels": torch.zeros(0).long()})
    right = draw_boxes(IMAGE, NAMES, detections((BOX, 0.9, 1)), target)
    edges = [
        (drawn[:, 60:200, 50] == torch.tensor(colour)[:, None]).all(0).float().mean()
        for drawn, colour in ((missed, RED), (false, AMBER), (right, GREEN))
    ]
    assert edges[0] == edges[2] == 1 and 0.3 < edges[1] < 0.8


def test_detections_at_one_place_share_a_label():
    """The labels of three classes stand beside each other, and so none is hidden."""
    three = [(BOX, 0.5, 1), (BOX, 0.4, 2), (BOX, 0.3, 3)]
    drawn = draw_boxes(IMAGE, ["4", "7", "9"], detections(*three), min_score=0.1)
    above = drawn[:, : BOX[1] - 2]  # the boxes are below
    columns = [
        (above == torch.tensor(class_colour(k))[:, None, None]).all(0).any(0).nonzero()[:, 0].tolist() for k in range(3)
    ]
    assert all(columns) and columns[0][-1] < columns[1][0] and columns[1][-1] < columns[2][0]


def test_labels_do_not_cover_small_objects():
    small = [(120.0, 46.0, 128.0, 56.0), (55.0, 44.0, 62.0, 56.0)]  # just above the large box, where its label would be
    image = IMAGE.clone()
    for left, top, right, bottom in small:
        image[:, int(top) + 4 : int(bottom) - 3, int(left) + 3 : int(right) - 3] = 77
    drawn = draw_boxes(image, NAMES, target={"boxes": boxes(BOX, *small), "labels": torch.tensor([1, 2, 2])})
    assert (image == 77).any() and (drawn[image == 77] == 77).all()


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
    assert torch.equal(both[:, :300], IMAGE)


def test_of_many_objects_only_errors_have_labels():
    image = torch.zeros(3, 700, 700, dtype=torch.uint8)
    corners = torch.cartesian_prod(torch.arange(20.0, 680, 60), torch.arange(20.0, 680, 60)).flip(1)
    target = {"boxes": torch.cat([corners, corners + 6], 1), "labels": torch.ones(len(corners), dtype=torch.long)}
    found = {**target, "scores": torch.full((len(corners),), 0.9)}
    shares = []
    for colour, few in ((GREEN, {key: value[:50] for key, value in found.items()}), (GREEN, found), (RED, None)):
        predicted = {key: value[:0] for key, value in found.items()} if few is None else few
        annotated = target if few is None else {key: value[: len(few["labels"])] for key, value in target.items()}
        drawn = draw_boxes(image, NAMES, predicted, annotated)[:, :700]
        ink = (drawn == torch.tensor(colour, dtype=torch.uint8)[:, None, None]).all(0)
        shares.append(float(ink.sum()) / len(annotated["labels"]))
    right_of_few, right_of_many, missed = shares  # pixels of the colour for each object
    assert right_of_many < 100 < 500 < min(right_of_few, missed)


def test_legend_of_a_narrow_picture_has_two_rows():
    nothing = {"boxes": boxes(), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
    heights = []
    for width in (240, 960):
        with text_size(24):
            drawn = draw_boxes(torch.zeros(3, 240, width, dtype=torch.uint8), NAMES, nothing, nothing)
        assert drawn.shape[2] == width
        heights.append(drawn.shape[1] - 240)
    assert heights[1] == 48 and heights[0] > 48 * 1.2
