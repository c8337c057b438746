"""Average precision, F1 and thresholds of images with several labels."""

import pytest
import torch
from score_terms import score_of
from torch.nn import functional as F
from torchmetrics.functional.classification import multilabel_average_precision, multilabel_f1_score

from kit.labels.evaluation import MultiLabelEvaluation

NAMES = ["a", "b", "c"]
PROBABILITIES = torch.tensor([[0.9, 0.2, 0.5], [0.8, 0.6, 0.5], [0.7, 0.4, 0.1], [0.3, 0.7, 0.2]])
TARGETS = torch.tensor([[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]])


def evaluation(*batches: list[int], thresholds=None) -> MultiLabelEvaluation:
    made = MultiLabelEvaluation(NAMES, thresholds)
    for keys in batches:
        made.update(torch.tensor(keys), PROBABILITIES[keys].logit(), TARGETS[keys])
    return made


def test_metrics_equal_manual_results():
    one = evaluation([0, 1, 2, 3])
    values = one.compute(by_class=True)
    assert values["map/a"] == pytest.approx((1 + 2 / 3) / 2)  # the images at the first and the third place
    assert values["map/b"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert values["map"] == pytest.approx((values["map/a"] + values["map/b"]) / 2)
    assert values["f1/a"] == values["f1/b"] == values["f1"] == pytest.approx(4 / 5)  # TP 2, FP 1, FN 0
    assert one.thresholds.tolist() == pytest.approx([(0.7 + 0.3) / 2, (0.4 + 0.2) / 2, 0.5])
    assert values["loss"] == pytest.approx(float(F.binary_cross_entropy(PROBABILITIES, TARGETS)))
    assert not {"map/c", "f1/c", "threshold/c"} & set(values) and values["threshold/b"] == pytest.approx(0.3)
    assert score_of(one.score_terms()) == pytest.approx(one.score()) == pytest.approx(values["f1"])
    name, losses = one.badness()
    assert name == "loss" and losses.mean() == pytest.approx(values["loss"])


def test_given_thresholds_are_used():
    values = evaluation([0, 1, 2, 3], thresholds=torch.tensor([0.85, 0.9, 0.0])).compute(by_class=True)
    assert (
        values["f1/a"] == pytest.approx(2 / 3) and values["f1/b"] == 0 and values["threshold/a"] == pytest.approx(0.85)
    )


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize(("num_images", "num_classes"), [(1, 2), (7, 5), (200, 3)])
def test_metrics_equal_those_of_torchmetrics(num_images, num_classes, rounded):
    draw = torch.Generator().manual_seed(num_images)
    logits = torch.randn(num_images, num_classes, generator=draw)
    logits = logits.round() if rounded else logits  # many equal probabilities
    targets = (torch.rand(num_images, num_classes, generator=draw) < 0.4).float()
    targets[0] = 1
    one = MultiLabelEvaluation([str(k) for k in range(num_classes)])
    one.update(torch.arange(num_images), logits, targets)
    values, thresholds = one.compute(), one.thresholds
    precision = multilabel_average_precision(logits, targets.long(), num_classes)
    assert values["map"] == pytest.approx(float(precision), abs=1e-6)
    given = (logits.sigmoid() >= thresholds).long()
    assert values["f1"] == pytest.approx(float(multilabel_f1_score(given, targets.long(), num_classes)), abs=1e-6)
    for threshold in torch.linspace(0.05, 0.95, 19):  # no other threshold is better
        given = (logits.sigmoid() >= threshold).long()
        others = multilabel_f1_score(given, targets.long(), num_classes, average="none")
        best = [value for key, value in one.compute(by_class=True).items() if key.startswith("f1/")]
        assert (torch.tensor(best) >= others - 1e-6).all()


def test_threshold_lies_between_probabilities_that_are_nearly_1():
    one = MultiLabelEvaluation(["a"])
    one.update(torch.arange(3), torch.tensor([[30.0], [29.0], [28.0]]), torch.tensor([[1.0], [1.0], [0.0]]))
    assert one.compute()["map"] == 1 and one.compute()["f1"] >= 4 / 5


def test_no_labels_give_a_loss_alone():
    one = MultiLabelEvaluation(NAMES)
    assert one.compute() == {} and one.charts() == {} and one.score() != one.score()
    one.update(torch.arange(2), torch.zeros(2, 3), torch.zeros(2, 3))
    assert one.compute(by_class=True) == {"loss": pytest.approx(0.6931, abs=1e-4)}
    assert one.score() != one.score() and one.thresholds.tolist() == [0.5] * 3
    assert set(one.charts()) == {"reliability"}


@pytest.mark.parametrize("column", [0, 2])  # a class with images, and one without
def test_no_metric_looks_good_if_a_logit_is_nan(column):
    one, logits = evaluation([1, 2, 3]), PROBABILITIES[[0]].logit()
    logits[0, column] = torch.nan
    one.update(torch.tensor([0]), logits, TARGETS[[0]])
    values = one.compute(by_class=True)
    assert {"loss", "map", "f1", "map/a", "f1/b"} <= set(values) and "map/c" not in values
    assert all(value != value for value in values.values()) and one.score() != one.score()


def test_no_charts_of_nan():
    one = MultiLabelEvaluation(NAMES)
    one.update(torch.arange(2), torch.tensor([[0, 0, 0], [0, 0, torch.nan]]), torch.ones(2, 3))
    assert one.charts() == {}


def test_curves_of_classes_with_images():
    chart = evaluation([0, 1, 2, 3]).charts()["precision_recall"]
    assert list(chart.curves) == ["0.83 a", "0.58 b", "0.71 all classes"] and chart.main == "0.71 all classes"
    recalls, precisions = chart.curves["0.83 a"]
    assert precisions[[0, 50, 51, 100]].tolist() == pytest.approx([1, 1, 2 / 3, 2 / 3])
    assert recalls[100] == 1


def test_reliability_counts_each_label():
    chart = evaluation([0, 1, 2, 3]).charts()["reliability"]
    expected, right = chart.curves["share with the label"]
    assert expected.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
    assert right.tolist() == [0, 0, 0, 1, 0, 1, 1 / 2, 0, 1]
