import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.boxes.evaluation import BoxEvaluation, ImageBoxes, error_share


def seen(detected, annotated, crowd=()):
    """Of rows (left, label, score) and (left, label): boxes of 10x10."""
    boxes = [
        torch.tensor([[left, 0.0, left + 10, 10] for left, *_ in rows]).view(-1, 4) for rows in (detected, annotated)
    ]
    labels = [torch.tensor([row[1] for row in rows], dtype=torch.long) for rows in (detected, annotated)]
    scores = torch.tensor([row[2] for row in detected])
    iscrowd = torch.tensor([int(place in crowd) for place in range(len(annotated))], dtype=torch.long)
    found = {"boxes": boxes[0], "labels": labels[0], "scores": scores}
    return ImageBoxes(found, {"boxes": boxes[1], "labels": labels[1], "iscrowd": iscrowd})


WRONG = [
    (seen([(0, 1, 0.9), (50, 2, 0.8)], [(0, 1), (50, 2)]), 0),
    (seen([(0, 1, 0.9), (0, 1, 0.8)], [(0, 1)]), 1 / 2),  # twice
    (seen([(0, 2, 0.9)], [(0, 1)]), 1),  # another class: one missed and one false
    (seen([(0, 1, 0.9), (50, 1, 0.2)], [(0, 1), (50, 1)]), 1 / 2),  # too unsure
    (seen([(4, 1, 0.9)], [(0, 1)]), 1),  # an IoU of 6/14
    (seen([], [(0, 1)]), 1),
    (seen([(0, 1, 0.9)], []), 1),
    (seen([], []), 0),
    (seen([(0, 1, 0.9), (1, 1, 0.8), (80, 1, 0.7)], [(0, 1), (80, 1)], crowd=(0,)), 0),
]


@pytest.mark.parametrize(("image", "share"), WRONG)
def test_error_share(image, share):
    assert error_share(image, 0.3) == pytest.approx(share)


def test_precision_recall_curve_of_a_class():
    evaluation = BoxEvaluation(["cat", "dog"])
    image = seen([(0, 1, 0.9), (50, 1, 0.5), (100, 1, 0.4)], [(0, 1), (100, 1), (200, 2)], crowd=())
    truth = image.annotated
    target = {"annotated": truth["boxes"], "labels": truth["labels"], "crowd": truth["iscrowd"].bool()}
    evaluation.update(torch.tensor([0]), [image.detected], [target])
    values = evaluation.compute(by_class=True)
    assert values["map/cat"] == pytest.approx((51 * 1 + 50 * 2 / 3) / 101) and values["map/dog"] == 0
    recalls, precisions = evaluation.charts()["precision_recall"].curves["cat"]
    assert len(recalls) == 101
    assert precisions[[0, 50, 51, 100]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3])


def test_pictures_and_curves_of_a_tiny_run(tiny_run):
    tags = EventAccumulator(str(tiny_run)).Reload().Tags()
    samples = {"samples/first_batch", "samples/validation", "samples/worst"}
    assert set(tags["images"]) == {*samples, "validation/precision_recall"}
