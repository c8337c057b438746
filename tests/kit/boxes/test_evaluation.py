import numpy as np
import pytest
import torch

from kit.boxes.evaluation import CHUNK, BoxEvaluation, ImageBoxes, precision_by_image
from kit.boxes.predictions import to_original

NAMES = ["a", "b", "c"]


def detected(boxes, scores, labels):
    return {"boxes": torch.tensor(boxes).float().reshape(-1, 4), "scores": torch.tensor(scores),
            "labels": torch.tensor(labels).long()}  # fmt: skip


def annotated(boxes, labels, crowd=None):
    return {"boxes": torch.tensor(boxes).float().reshape(-1, 4), "labels": torch.tensor(labels).long(),
            "iscrowd": torch.tensor(crowd or [0] * len(labels)).long()}  # fmt: skip


def evaluation(*pairs, max_detections=100, backwards=False):
    """Of images with these detections and annotations, each in a batch of its own."""
    evaluated = BoxEvaluation(NAMES, max_detections)
    keyed = list(enumerate(pairs))
    for key, (found, truth) in reversed(keyed) if backwards else keyed:
        target = {"original_boxes": truth["boxes"], "labels": truth["labels"], "crowd": truth["iscrowd"].bool()}
        evaluated.update(torch.tensor([key]), [found], [target])
    return evaluated


def metrics(*pairs):
    return evaluation(*pairs).compute(by_class=True)


BOX, OTHER = [10, 10, 50, 50], [60, 10, 100, 50]
KNOWN = [  # detections and annotations of one image, and what is measured
    ("all found", detected([BOX], [0.9], [1]), annotated([BOX], [1]), {"map": 1, "map_50": 1, "map/a": 1}),
    ("none found", detected([], [], []), annotated([BOX], [1]), {"map": 0, "map_50": 0, "map_50/a": 0}),
    ("half found", detected([BOX], [0.9], [1]), annotated([BOX, OTHER], [1, 1]), {"map_50": 51 / 101}),
    ("false, less sure", detected([BOX, OTHER], [0.9, 0.8], [1, 1]), annotated([BOX], [1]), {"map_50": 1}),
    ("false, more sure", detected([BOX, OTHER], [0.8, 0.9], [1, 1]), annotated([BOX], [1]), {"map_50": 0.5}),
    ("twice", detected([BOX, BOX], [0.9, 0.8], [1, 1]), annotated([BOX, OTHER], [1, 1]), {"map_50": 51 / 101}),
    # Overlap 40*36 / 40*40 = 0.9: right at 0.50, 0.55, ..., 0.90: 9 of 10.
    ("nearly", detected([[10, 10, 50, 46]], [0.9], [1]), annotated([BOX], [1]), {"map": 0.9, "map_75": 1}),
    ("another class", detected([BOX], [0.9], [2]), annotated([BOX], [1]), {"map": 0, "map/a": 0}),
    ("two classes", detected([BOX], [0.9], [1]), annotated([BOX, OTHER], [1, 3]),
     {"map": 0.5, "map/a": 1, "map/c": 0}),
    ("in a crowd", detected([OTHER, BOX], [0.9, 0.8], [1, 1]), annotated([OTHER, BOX], [1, 1], [1, 0]),
     {"map": 1, "map/a": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("found", "truth", "values"), [row[1:] for row in KNOWN], ids=[row[0] for row in KNOWN])
def test_known_answers(found, truth, values):
    result = metrics((found, truth))
    assert {key: result[key] for key in values} == pytest.approx(values, abs=1e-6)


def test_unmeasurable_metrics_are_left_out():
    result = metrics((detected([BOX], [0.9], [1]), annotated([BOX], [1])))
    assert {"map", "map_50", "map_75", "map_medium", "map/a", "map_50/a"} == set(result)
    assert metrics((detected([BOX], [0.9], [1]), annotated([], []))) == {}
    assert metrics((detected([], [], []), annotated([], []))) == {}
    assert metrics() == {}


def test_metrics_equal_those_of_coco_in_any_order():
    from faster_coco_eval import COCO, COCOeval_faster

    random = np.random.default_rng(0)
    pairs, images, truths, results = [], [], [], []
    for image in range(12):
        corner, size = random.integers(0, 80, (5, 2)), random.integers(8, 70, (5, 2))
        boxes, labels = np.hstack([corner, corner + size]), random.integers(1, 4, 5)
        moved = boxes + random.integers(-6, 7, (5, 4))
        scores, guesses = random.random(5).astype(np.float32), np.where(random.random(5) < 0.8, labels, 1)
        pairs.append((detected(moved, scores, guesses), annotated(boxes, labels)))
        images.append({"id": image})
        for box, label in zip(boxes.tolist(), labels.tolist(), strict=True):
            width, height = box[2] - box[0], box[3] - box[1]
            truths.append({"id": len(truths) + 1, "image_id": image, "category_id": label, "iscrowd": 0,
                           "bbox": [*box[:2], width, height], "area": width * height})  # fmt: skip
        for box, label, score in zip(moved.tolist(), guesses.tolist(), scores.tolist(), strict=True):
            results.append({"image_id": image, "category_id": label, "score": score,
                            "bbox": [*box[:2], box[2] - box[0], box[3] - box[1]]})  # fmt: skip
    data = {"images": images, "annotations": truths, "categories": [{"id": k, "name": NAMES[k - 1]} for k in (1, 2, 3)]}
    coco = COCO(data)
    evaluated = COCOeval_faster(coco, coco.loadRes(results), iouType="bbox")
    evaluated.evaluate()
    evaluated.accumulate()
    evaluated.summarize()
    ours = metrics(*pairs)
    wanted = dict(
        zip(("map", "map_50", "map_75", "map_small", "map_medium", "map_large"), evaluated.stats, strict=False)
    )
    assert wanted.pop("map_large") == -1 and "map_large" not in ours
    assert {key: ours[key] for key in wanted} == pytest.approx(wanted, abs=1e-6)
    assert np.mean([ours[f"map/{name}"] for name in NAMES]) == pytest.approx(ours["map"], abs=1e-6)
    assert np.mean([ours[f"map_50/{name}"] for name in NAMES]) == pytest.approx(ours["map_50"], abs=1e-6)
    assert evaluation(*pairs, backwards=True).compute(by_class=True) == ours


def test_to_original_undoes_fitting():
    """100x200 was fitted into 40x60 as 30x60; what lies below row 30 is padding."""
    found = detected([[3, 6, 33, 30], [50, 20, 80, 38], [0, 31, 9, 40]], [0.9, 0.8, 0.7], [1, 2, 3])
    back = to_original(found, (100, 200), unpadded_size=(30, 60))
    assert torch.allclose(back["boxes"], torch.tensor([[10.0, 20, 110, 100], [500 / 3, 200 / 3, 200, 100]]))
    assert back["labels"].tolist() == [1, 2] and len(back["scores"]) == 2


def test_precision_by_image_equals_the_metric_of_one_image():
    """More images than are measured in one call; some without boxes, with crowds, or with other classes detected."""
    images = []
    for key in range(CHUNK + 5):
        generator = torch.Generator().manual_seed(key)
        boxes = torch.rand(key % 4, 4, generator=generator).cumsum(1) * 40
        found = boxes[: max(0, key % 4 - key % 3)] + 2 * torch.rand(1, generator=generator)
        labels = torch.randint(1, 4, (len(boxes),), generator=generator)
        crowd = torch.full((len(boxes),), int(key % 7 == 0))
        scores = torch.rand(len(found) + 1, generator=generator)
        guesses = torch.cat([labels[: len(found)], torch.tensor([1 + key % 3])])
        images.append(
            ImageBoxes(
                {"boxes": torch.cat([found, torch.tensor([[1.0, 1, 9, 9]])]), "scores": scores, "labels": guesses},
                {"boxes": boxes, "labels": labels, "iscrowd": crowd},
            )
        )
    wanted = [metrics(image).get("map", float("nan")) for image in images]
    values = precision_by_image(images, num_classes=3)
    assert torch.allclose(values, torch.tensor(wanted), equal_nan=True, atol=1e-6)
    assert 5 < values.isnan().sum() < 40 and len(values.unique()) > 10
    assert precision_by_image([], 3).shape == (0,)


def grid(count: int) -> torch.Tensor:
    """Boxes that lie apart, Float[count 4]."""
    places = torch.arange(count)
    corners = torch.stack([places % 20 * 10, places // 20 * 10], 1).float()
    return torch.cat([corners, corners + 8], 1)


def test_perfect_detections_of_many_objects_score_1():
    boxes, labels = grid(200), torch.ones(200, dtype=torch.long)
    found, truth = detected(boxes.tolist(), torch.rand(200).tolist(), labels), annotated(boxes.tolist(), labels)
    evaluated = evaluation((found, truth), max_detections=200)
    values = evaluated.compute(by_class=True)
    assert values["map"] == values["map_50"] == values["map/a"] == evaluated.score() == 1
    assert (
        precision_by_image([ImageBoxes(found, truth)], 3, 200).tolist()
        == [1]
        == evaluated.score_terms()[:, 0, 0].tolist()
    )


def test_too_low_limit_of_detections_warns():
    boxes, labels = grid(150), [1] * 150
    with pytest.warns(
        UserWarning, match="cannot reach 1: an image has 150 boxes of one class, but at most 100 .* limit is 100, or"
    ):
        values = metrics(
            (detected(boxes.tolist(), torch.rand(150).tolist(), labels), annotated(boxes.tolist(), labels))
        )
    assert values["map"] == pytest.approx(67 / 101, abs=1e-6)  # of 101 recalls, those up to 100/150


def row(*lefts):
    """Boxes of 10x10 in a row, Float[N 4]."""
    return [[left, 0, left + 10, 10] for left in lefts]


WRONG = [  # detections and annotations of an image, and the share of errors from a score of 0.3
    (detected(row(0, 50), [0.9, 0.8], [1, 2]), annotated(row(0, 50), [1, 2]), 0),
    (detected(row(0, 0), [0.9, 0.8], [1, 1]), annotated(row(0), [1]), 1 / 2),  # twice
    (detected(row(0), [0.9], [2]), annotated(row(0), [1]), 1),  # another class: one missed and one false
    (detected(row(0, 50), [0.9, 0.2], [1, 1]), annotated(row(0, 50), [1, 1]), 1 / 2),  # too low a score
    (detected(row(4), [0.9], [1]), annotated(row(0), [1]), 1),  # an IoU of 6/14
    (detected([], [], []), annotated(row(0), [1]), 1),
    (detected(row(0), [0.9], [1]), annotated([], []), 1),
    (detected([], [], []), annotated([], []), 0),
    (detected(row(0, 1, 80), [0.9, 0.8, 0.7], [1, 1, 1]), annotated(row(0, 80), [1, 1], [1, 0]), 0),
]


def test_badness_is_the_share_of_errors():
    evaluated = BoxEvaluation(NAMES, threshold=0.3)
    for key, (found, truth, _) in enumerate(WRONG):
        target = {"original_boxes": truth["boxes"], "labels": truth["labels"], "crowd": truth["iscrowd"].bool()}
        evaluated.update(torch.tensor([key]), [found], [target])
    assert evaluated.badness()[1].tolist() == pytest.approx([share for *_, share in WRONG])


# Of four boxes, two are of class a. In the order of scores: right, of another class, false, right.
MIXED = (
    (detected(row(0, 50), [0.9, 0.8], [1, 3]), annotated(row(0, 50), [1, 2])),
    (detected(row(200, 0), [0.7, 0.6], [2, 1]), annotated(row(0, 50), [1, 3])),
)


def test_threshold_has_the_highest_f1():
    """F1 from each score: 2/5, 2/6, 2/7 and 4/8."""
    evaluated = evaluation(*MIXED)
    assert evaluated.threshold == pytest.approx(0.6)
    confidence = evaluated.charts()["confidence"]
    assert confidence.point[:2] == pytest.approx((0.6, 0.5))
    thresholds, f1 = confidence.curves["F1"]
    at = [int(torch.searchsorted(thresholds, value)) for value in (0.85, 0.75, 0.65, 0.55)]
    assert f1[at].tolist() == pytest.approx([2 / 5, 2 / 6, 2 / 7, 4 / 8])
    assert confidence.curves["precision"][1][at].tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 2])
    assert confidence.curves["recall"][1][at].tolist() == pytest.approx([1 / 4, 1 / 4, 1 / 4, 2 / 4])
    assert evaluation((detected([], [], []), annotated(row(0), [1]))).threshold == 0.5
    assert BoxEvaluation(NAMES, threshold=0.2).threshold == 0.2


def test_equal_scores_count_together():
    found = detected(row(0, 50, 90, 95), [0.5, 0.5, 0.5, 0.4], [1, 1, 1, 1])
    evaluated = evaluation((found, annotated(row(0), [1])))
    assert evaluated.threshold == 0.5 and evaluated.charts()["confidence"].point[1] == pytest.approx(2 / 4)


def test_confusion_has_a_row_and_a_column_for_the_background():
    confusion = evaluation(*MIXED).charts()["confusion"]
    assert confusion.names == [*NAMES, "background"]
    assert confusion.counts.tolist() == [[2, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, 1, 0, 0]]
    above = BoxEvaluation(NAMES, threshold=0.75)
    for key, (found, truth) in enumerate(MIXED):
        target = {"original_boxes": truth["boxes"], "labels": truth["labels"], "crowd": truth["iscrowd"].bool()}
        above.update(torch.tensor([key]), [found], [target])
    assert above.charts()["confusion"].counts.tolist() == [[1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]]


def test_crowds_are_in_no_cell_of_the_confusion_matrix():
    found = detected(row(0, 1, 80), [0.9, 0.8, 0.7], [1, 2, 1])
    counts = evaluation((found, annotated(row(0, 80), [1, 1], [1, 0]))).charts()["confusion"].counts
    assert counts[0, 0] == counts.sum() == 1


def test_precision_and_recall_of_each_class_and_of_all():
    found = detected(row(0, 50, 100), [0.9, 0.5, 0.4], [1, 1, 1])
    evaluated = evaluation((found, annotated(row(0, 100, 200), [1, 1, 2])))
    values = evaluated.compute(by_class=True)
    charts = evaluated.charts()
    chart = charts["precision_recall"]
    main = f"{values['map_50']:.2f} all classes"
    assert [*chart.curves] == [f"{values['map_50/a']:.2f} a", "0.00 b", main] and chart.main == main
    recalls, precisions = next(iter(chart.curves.values()))
    assert len(recalls) == 101
    assert precisions[[0, 50, 51, 100]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3])
    assert float(chart.curves[main][1].mean()) == pytest.approx(values["map_50"])
    assert [*charts["average_precision"].values] == ["b", "a"]  # the worst is first
    one = evaluation((detected(row(0), [0.9], [1]), annotated(row(0), [1]))).charts()
    assert [*one["precision_recall"].curves] == [one["precision_recall"].main] and "average_precision" not in one


def test_without_boxes_there_are_no_charts():
    assert evaluation().charts() == {} == evaluation((detected(row(0), [0.9], [1]), annotated([], []))).charts()
