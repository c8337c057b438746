import pytest
import torch
from torchvision.ops import box_iou

from kit.boxes import matching
from kit.boxes.matching import IN_CROWD, UNMATCHED, match_boxes


def boxes(*rows):
    return torch.tensor(rows).float().reshape(-1, 4)


def detected(corners, scores, labels):
    return {"boxes": boxes(*corners), "scores": torch.tensor(scores), "labels": torch.tensor(labels).long()}


def annotated(corners, labels, crowd=None):
    crowd = torch.tensor(crowd or [0] * len(labels)).long()
    return {"boxes": boxes(*corners), "labels": torch.tensor(labels).long(), "iscrowd": crowd}


A, NEAR_A, B = [0, 0, 40, 40], [0, 0, 40, 36], [100, 0, 140, 40]


def test_higher_scores_match_first():
    found = [detected([NEAR_A, A, B], [0.5, 0.9, 0.7], [1, 1, 1]), detected([A], [0.8], [1])]
    matches = match_boxes(found, [annotated([B, A], [1, 1]), annotated([A], [1])])
    assert matches.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.5])
    assert matches.images.tolist() == [0, 1, 0, 0]
    assert matches.boxes.tolist() == [1, 2, 0, UNMATCHED]


def test_a_detection_takes_the_next_best_free_box():
    found = detected([A, A], [0.9, 0.8], [1, 1])
    assert match_boxes([found], [annotated([NEAR_A, A], [1, 1])]).boxes.tolist() == [1, 0]


def test_classes_and_lowest_score():
    found, truth = [detected([A, A], [0.9, 0.2], [2, 1])], [annotated([A], [1])]
    assert match_boxes(found, truth).boxes.tolist() == [UNMATCHED, 0]
    assert match_boxes(found, truth, any_class=True).boxes.tolist() == [0, UNMATCHED]
    assert match_boxes(found, truth, min_score=0.3).boxes.tolist() == [UNMATCHED]


def test_crowds_take_any_number_of_detections_that_lie_in_them():
    found = detected([A, [50, 50, 60, 60], B], [0.9, 0.8, 0.7], [1, 1, 1])
    truth = annotated([[0, 0, 90, 90], A], [1, 1], [1, 0])  # the second detection has an IoU of 1/81 with the crowd
    assert match_boxes([found], [truth]).boxes.tolist() == [1, IN_CROWD, UNMATCHED]


def test_nothing_to_match():
    nothing = detected([], [], []), annotated([], [])
    assert len(match_boxes([], []).boxes) == len(match_boxes([nothing[0]], [nothing[1]]).boxes) == 0
    assert match_boxes([detected([A], [0.9], [1])], [nothing[1]]).boxes.tolist() == [UNMATCHED]
    assert len(match_boxes([nothing[0]], [annotated([A], [1])]).boxes) == 0


@pytest.mark.parametrize("any_class", [False, True])
def test_many_images_match_as_one_by_one(monkeypatch, any_class):
    """Pairs are computed in several parts, and a loop over detections and boxes gives the same matches."""
    monkeypatch.setattr(matching, "MAX_PAIRS", 10)
    torch.manual_seed(0)
    found, truth, matched, before = [], [], [], 0
    for count in (0, 5, 9, 1, 0, 12):
        corners = torch.rand(count, 2) * 60
        real = torch.cat([corners, corners + 30], 1)
        near = (real.repeat(2, 1) + 4 * torch.randn(2 * count, 4)).round()
        labels = torch.randint(1, 4, (count,))
        guesses = labels.repeat(2).where(torch.rand(2 * count) < 0.7, 1)
        scores = torch.rand(2 * count)
        found.append({"boxes": near, "scores": scores, "labels": guesses})
        truth.append({"boxes": real, "labels": labels, "iscrowd": torch.zeros(count).long()})
        overlaps = box_iou(near, real) * ((guesses[:, None] == labels) | any_class)
        for i in scores.argsort(descending=True).tolist():
            match = int(overlaps[i].argmax()) if count and overlaps[i].max() >= 0.5 else UNMATCHED
            if match >= 0:
                overlaps[:, match] = 0
            matched.append((float(scores[i]), match + before if match >= 0 else match))
        before += count
    result = match_boxes(found, truth, any_class)
    assert list(zip(result.scores.tolist(), result.boxes.tolist(), strict=True)) == sorted(matched, reverse=True)
    assert 10 < sum(match >= 0 for _, match in matched) <= before
