import pytest
import torch
from score_terms import score_of
from torch.nn import functional as F
from torchmetrics.functional.classification import (
    multiclass_average_precision,
    multiclass_calibration_error,
    multiclass_f1_score,
)

from kit.labels.curves import reliability
from kit.labels.evaluation import LabelEvaluation

NAMES = ["a", "b", "c", "d", "e", "f"]
TARGETS = torch.tensor([0, 1, 2, 3, 4, 5, 0, 1])
LOGITS = F.one_hot(torch.tensor([0, 1, 2, 3, 4, 5, 1, 5]), 6).float()


def evaluation(*batches: list[int]) -> LabelEvaluation:
    made = LabelEvaluation(NAMES)
    for keys in batches:
        made.update(torch.tensor(keys), LOGITS[keys], TARGETS[keys])
    return made


def test_metrics_score_and_shares_equal_manual_results():
    one = evaluation([0, 1, 2, 3, 4], [5, 6, 7])
    values = one.compute(by_class=True)
    assert values["accuracy"] == 6 / 8 == one.score() == score_of(one.score_terms())
    assert values["accuracy/a"] == values["accuracy/b"] == 0.5 and values["accuracy/c"] == 1
    assert values["f1"] == pytest.approx((2 / 3 + 1 / 2 + 1 + 1 + 1 + 2 / 3) / 6)  # 2 TP / (2 TP + FP + FN)
    assert values["loss"] == pytest.approx(float(F.cross_entropy(LOGITS, TARGETS)))
    assert 6 / 8 <= values["accuracy_top5"] <= 1


@pytest.mark.parametrize(("num_classes", "num_images"), [(2, 1), (3, 40), (10, 7), (50, 2000), (1000, 300)])
def test_f1_from_counts_equals_the_one_of_torchmetrics_to_the_bit(num_classes, num_images):
    generator = torch.Generator().manual_seed(num_images)
    targets, others = torch.randint(num_classes, (2, num_images), generator=generator)
    predicted = targets.where(torch.rand(num_images, generator=generator) < 0.6, others)
    one = LabelEvaluation([str(k) for k in range(num_classes)])
    one.update(torch.arange(num_images), F.one_hot(predicted, num_classes).float(), targets)
    assert one.compute()["f1"] == float(multiclass_f1_score(predicted, targets, num_classes))


def test_counts_of_many_classes_take_no_matrix_of_classes():
    one = LabelEvaluation([str(k) for k in range(10**6)])  # the matrix would have 8 TB
    one.update(torch.arange(1), F.one_hot(torch.tensor([7]), 10**6).float(), torch.tensor([7]))
    values = one.compute(by_class=True)
    assert values["f1"] == values["accuracy/7"] == 1 and set(one.charts()) == {"reliability", "accuracy"}


def test_repeated_samples_count_once_in_any_order():
    whole = evaluation([0, 1, 2, 3, 4, 5, 6, 7]).compute(by_class=True)
    assert evaluation([7, 3], [0, 1, 2, 3], [4, 5, 6, 7]).compute(by_class=True) == whole


def test_new_entry_replaces_old_entry():
    one = evaluation([0, 1])
    one.update(torch.tensor([1]), LOGITS[[0]], TARGETS[[1]])
    assert one.keys.tolist() == [0, 1] and one.compute()["accuracy"] == 0.5


def test_no_metrics_without_samples():
    assert evaluation().compute() == {} == evaluation().charts() and evaluation().score() != evaluation().score()


def test_many_classes_have_neither_matrix_nor_curves(monkeypatch):
    monkeypatch.setattr("kit.labels.evaluation.MAX_CONFUSION_CLASSES", 5)
    monkeypatch.setattr("kit.labels.evaluation.MAX_CURVE_CLASSES", 5)
    one = evaluation([0, 6])
    assert set(one.charts()) == {"reliability", "accuracy"} and one.rows.shape == (2, 5)


def test_nan_has_neither_reliability_nor_curves():
    one = evaluation([0])
    one.update(torch.tensor([1]), LOGITS[[0]] * torch.nan, TARGETS[[1]])
    assert set(one.charts()) == {"confusion", "accuracy"}


def test_no_metric_looks_good_if_a_logit_is_nan():
    one = evaluation([1, 2, 3, 4, 5])
    one.update(torch.tensor([0]), torch.tensor([[torch.nan, 0, 0, 0, 0, 0]]), TARGETS[[0]])  # argmax is the target
    values = one.compute(by_class=True)
    assert {"loss", "accuracy", "f1", "accuracy_top5", "accuracy/a"} <= set(values)
    assert all(value != value for value in values.values()) and one.score() != one.score()


def test_bars_of_accuracy_have_the_worst_class_first():
    bars = evaluation([0, 1, 2, 6]).charts()["accuracy"]
    assert list(bars.values.items()) == [("a", 0.5), ("b", 1), ("c", 1)]
    assert bars.texts["a"] == "50% of 2"


@pytest.mark.parametrize("rounded", [False, True])
def test_curves_and_calibration_equal_those_of_torchmetrics(rounded):
    generator = torch.Generator().manual_seed(0)
    logits, targets = torch.randn(300, 4, generator=generator), torch.randint(3, (300,), generator=generator)
    logits = logits.round() if rounded else logits  # many equal probabilities
    one = LabelEvaluation(["a", "b", "c", "no image"])
    one.update(torch.arange(300), logits, targets)
    charts, probabilities = one.charts(), logits.softmax(1)
    precision = multiclass_average_precision(probabilities, targets, 4, average="none")[:3]
    assert list(charts["precision_recall"].curves) == [
        *(f"{value:.2f} {name}" for name, value in zip("abc", precision.tolist(), strict=True)),
        f"{precision.mean():.2f} all classes",
    ]
    recalls, mean = charts["precision_recall"].curves[charts["precision_recall"].main]
    precisions = [curve for _, curve in charts["precision_recall"].curves.values()][:3]
    assert torch.equal(mean, torch.stack(precisions).mean(0)) and len(recalls) == len(mean) == 101
    error = multiclass_calibration_error(probabilities, targets, 4, n_bins=15)
    assert charts["reliability"].title.endswith(f" {error:.1%}")


def test_reliability_of_two_bins():
    probabilities = torch.tensor([0.5, 0.52, 0.51, 1.0])
    chart = reliability(probabilities, torch.tensor([True, False, False, True]), "probability", "right")
    expected, right = chart.curves["right"]
    assert expected.tolist() == pytest.approx([0.51, 1]) and right.tolist() == pytest.approx([1 / 3, 1])
    assert chart.title.endswith(f" {0.75 * (0.51 - 1 / 3):.1%}")
    places, shares = chart.curves["share of predictions"]
    assert shares.nonzero()[:, 0].tolist() == [7, 14] and shares.sum() == 1 and places[14] == pytest.approx(14.5 / 15)


def test_class_numbers_are_exact_in_half_precision():
    one = LabelEvaluation([str(k) for k in range(1000)])
    one.update(torch.arange(2), F.one_hot(torch.tensor([301, 999]), 1000).bfloat16(), torch.tensor([301, 998]))
    assert one.rows[:, 1:3].tolist() == [[301, 301], [999, 998]]
