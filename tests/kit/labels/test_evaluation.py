import pytest
import torch
from shares import score_of
from torch.nn import functional as F
from torchmetrics.functional.classification import multiclass_f1_score

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
    assert values["accuracy"] == 6 / 8 == one.score() == score_of(one.shares())
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
    assert values["f1"] == values["accuracy/7"] == 1 and one.charts() == {}


def test_repeated_samples_count_once_in_any_order():
    whole = evaluation([0, 1, 2, 3, 4, 5, 6, 7]).compute(by_class=True)
    assert evaluation([7, 3], [0, 1, 2, 3], [4, 5, 6, 7]).compute(by_class=True) == whole


def test_new_entry_replaces_old_entry():
    one = evaluation([0, 1])
    one.update(torch.tensor([1]), LOGITS[[0]], TARGETS[[1]])
    assert one.keys.tolist() == [0, 1] and one.compute()["accuracy"] == 0.5


def test_no_metrics_without_samples():
    assert evaluation().compute() == {} and evaluation().score() != evaluation().score()


def test_no_confusion_matrix_for_many_classes(monkeypatch):
    monkeypatch.setattr("kit.labels.evaluation.MAX_CONFUSION_CLASSES", 5)
    assert evaluation([0, 6]).charts() == {}


def test_class_numbers_are_exact_in_half_precision():
    one = LabelEvaluation([str(k) for k in range(1000)])
    one.update(torch.arange(2), F.one_hot(torch.tensor([301, 999]), 1000).bfloat16(), torch.tensor([301, 998]))
    assert one.rows[:, 1:3].tolist() == [[301, 301], [999, 998]]
