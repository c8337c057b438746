"""Detections in mirror images are flipped back and merged for each object. Objects are pasted with their boxes."""

import pytest
import torch

from kit.boxes.augmentation import paste_objects, predict_with_flips
from kit.ground.errors import UserError

HEIGHT, WIDTH = 40, 60
WAYS = ["horizontal", "vertical", "both"]


def brightest(images):
    """A detector that is exact: the box around what is bright, whichever way the image is turned."""
    found = []
    for image in images:
        rows, columns = (image[0] > 0.5).any(1).nonzero()[:, 0], (image[0] > 0.5).any(0).nonzero()[:, 0]
        box = torch.tensor([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], dtype=torch.float)
        found.append({"boxes": box, "scores": torch.tensor([0.9]), "labels": torch.tensor([2])})
    return found


@pytest.mark.parametrize("flip", WAYS)
def test_exact_boxes_stay(flip):
    images = torch.zeros(2, 3, HEIGHT, WIDTH)
    images[0, :, 5:15, 40:52] = 1
    images[1, :, 30:38, 2:30] = 1
    for there, box in zip(
        predict_with_flips(brightest, images, [flip], 100), ([40, 5, 52, 15], [2, 30, 30, 38]), strict=True
    ):
        assert there["boxes"].tolist() == [box]
        assert there["labels"].tolist() == [2] and there["scores"].tolist() == [pytest.approx(0.9)]


def test_boxes_are_averaged_by_score():
    def one_to_the_right(images):  # of an object from 20 to 40, in the middle of the image and of its mirror image
        mirrored = images[0, 0, 0, 0] > 0.5
        score = torch.tensor([0.3 if mirrored else 0.9])
        return [{"boxes": torch.tensor([[21.0, 10, 41, 30]]), "scores": score, "labels": torch.tensor([1])}]

    images = torch.zeros(1, 1, HEIGHT, WIDTH)
    images[0, 0, 0, -1] = 1  # the upper right corner, which a mirror puts upper left
    (found,) = predict_with_flips(one_to_the_right, images, ["horizontal"], 100)
    # From 21 in the image, and in its mirror image, which is from 19 in the image: three votes to one.
    assert torch.allclose(found["boxes"], torch.tensor([[20.5, 10, 40.5, 30]]))
    assert found["scores"].tolist() == [pytest.approx(0.9)]


def test_classes_of_one_object_are_merged_if_any_class_can_show_it():
    box = torch.tensor([[10.0, 10, 30, 30]])
    views = [[{"boxes": box, "scores": torch.tensor([score]), "labels": torch.tensor([label])}]
             for score, label in ((0.6, 1), (0.8, 2))]  # fmt: skip
    mirrored = {**views[1][0], "boxes": torch.tensor([[30.0, 10, 50, 30]])}
    for any_class, labels in ((False, [2, 1]), (True, [2])):
        answers = iter([views[0], [mirrored]])
        images = torch.zeros(1, 1, HEIGHT, WIDTH)
        (found,) = predict_with_flips(lambda _, answers=answers: next(answers), images, ["horizontal"], 100, any_class)
        assert found["labels"].tolist() == labels and torch.equal(found["boxes"][0], box[0])


def test_different_objects_are_not_merged():
    apart = {
        "boxes": torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [5, 0, 15, 10]]),
        "scores": torch.tensor([0.9, 0.8, 0.7]),
        "labels": torch.tensor([1, 2, 1]),
    }
    nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
    views = iter([[apart], [nothing], [nothing], [nothing]])
    (found,) = predict_with_flips(lambda images: next(views), torch.zeros(1, 3, HEIGHT, WIDTH), WAYS, 100)
    assert all(torch.allclose(found[key], apart[key]) for key in apart)
    (none,) = predict_with_flips(lambda images: [nothing], torch.zeros(1, 3, HEIGHT, WIDTH), WAYS, 100)
    assert none["boxes"].shape == (0, 4)


def test_boxes_without_area_are_dropped_and_scores_of_zero_give_a_mean():
    detected = {
        "boxes": torch.tensor([[10.0, 5, 10, 25], [30, 20, 20, 10], [10, 10, 50, 30]]),
        "scores": torch.tensor([0.9, 0.8, 0.0]),
        "labels": torch.tensor([1, 1, 2]),
    }
    views = iter([[detected], [{**detected, "boxes": detected["boxes"] + torch.tensor([4.0, 0, 4, 0])}]])
    (found,) = predict_with_flips(lambda images: next(views), torch.zeros(1, 3, HEIGHT, WIDTH), ["horizontal"], 100)
    # The third box reaches from 6 to 46 in the mirror image.
    assert found["boxes"].tolist() == [[8, 10, 48, 30]]
    assert found["scores"].tolist() == [0] and found["labels"].tolist() == [2]


def test_mean_of_equal_boxes_is_exact_under_autocast():
    boxes = torch.tensor([[589.3, 391.6, 612.7, 409.7]])  # its mirror image is at the same place
    detected = {"boxes": boxes, "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = predict_with_flips(lambda _: [detected], torch.zeros(1, 3, 500, 1202), ["horizontal"], 100)
    assert torch.allclose(found["boxes"], boxes, atol=1e-3)


def painted(boxes, crowd=False):
    """An image whose objects are white, and its target. Object i has the label i + 1."""
    image = torch.zeros(3, HEIGHT, WIDTH)
    for left, top, right, bottom in boxes:
        image[:, top:bottom, left:right] = 1
    boxes = torch.tensor(boxes, dtype=torch.float).view(-1, 4)
    labels = torch.arange(1, len(boxes) + 1)
    return image, {
        "boxes": boxes,
        "labels": labels,
        "crowd": torch.full_like(labels, crowd).bool(),
        "original_boxes": boxes,
    }


def paste(*samples, probability=1.0):
    images, targets = zip(*samples, strict=True)
    return paste_objects(torch.stack(images), targets, probability)


def test_a_pasted_object_is_in_its_box():
    torch.manual_seed(0)
    first, second = painted([]), painted([(3, 5, 23, 20)])
    positions = set()
    for _ in range(20):
        images, (target, source) = paste(first, second)
        (box,) = target["boxes"].int().tolist()
        rows, columns = (images[0, 0] > 0).any(1).nonzero(), (images[0, 0] > 0).any(0).nonzero()
        assert box == [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]
        assert (box[2] - box[0], box[3] - box[1]) == (20, 15)
        assert (images[0, :, box[1] + 2 : box[3] - 2, box[0] + 2 : box[2] - 2] == 1).all()
        assert 0 < images[0, 0, box[1], box[0]] < 1  # edges are blended
        assert target["labels"].tolist() == [1] and target["original_boxes"].tolist() == [[3, 5, 23, 20]]
        assert torch.equal(images[1], second[0]) and torch.equal(source["boxes"], second[1]["boxes"])
        positions.add(tuple(box))
    assert len(positions) > 15
    assert not first[0].any() and not len(first[1]["boxes"])  # the batch is left as it was


def test_a_pasted_object_hides_little_of_another():
    torch.manual_seed(0)
    objects = [(0, 0, 20, 40), (40, 0, 60, 40)]
    for _ in range(20):
        _, (target, _) = paste(painted(objects), painted([(5, 5, 25, 30)]))
        for left, top, right, bottom in target["boxes"][2:].int().tolist():
            for x1, y1, x2, y2 in objects:
                hidden = max(0, min(x2, right) - max(x1, left)) * max(0, min(y2, bottom) - max(y1, top))
                assert hidden / ((x2 - x1) * (y2 - y1)) <= 0.3


@pytest.mark.parametrize(
    ("other", "probability"),
    [
        (painted([]), 1.0),
        (painted([(3, 5, 23, 20)], crowd=True), 1.0),
        (painted([(0, 0, WIDTH, 20)]), 1.0),  # as wide as the image
        (painted([(3, 5, 23, 20)]), 0.0),
    ],
)
def test_nothing_is_pasted(other, probability):
    covered = painted([(0, 0, WIDTH, HEIGHT)])[0], painted([])[1]
    images, targets = paste(covered, other, probability=probability)
    assert torch.equal(images[0], covered[0]) and not len(targets[0]["boxes"])


def test_a_batch_of_one_image_is_refused():
    with pytest.raises(UserError, match=r"data\.batch_size"):
        paste(painted([(3, 5, 23, 20)]))
