"""IoU by class and by size, of masks with known overlaps."""

import pytest
import torch
from torch.nn import functional as F
from torchmetrics.classification import MulticlassJaccardIndex

from kit.masks.evaluation import MaskEvaluation


def evaluation(names, predicted, targets) -> MaskEvaluation:
    one = MaskEvaluation(names)
    logits = F.one_hot(predicted, len(names)).movedim(-1, 1).float()
    for key in range(len(targets)):
        one.update(torch.tensor([key]), logits[[key]], targets[[key]])
    return one


def test_metrics_and_matrix_agree_with_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    predicted, targets = torch.randint(0, 5, (2, 3, 9, 7), generator=generator)
    one = evaluation([*"abcde"], predicted, targets)
    expected = MulticlassJaccardIndex(5, average="none")(predicted, targets)
    values = one.compute(by_class=True)
    assert [values[f"iou/{name}"] for name in "abcde"] == pytest.approx(expected.tolist())
    assert values["pixel_accuracy"] == pytest.approx(float((predicted == targets).float().mean()))
    counts = torch.bincount(5 * targets.flatten() + predicted.flatten(), minlength=25).view(5, 5)
    assert torch.equal(one.charts()["confusion"].counts, counts)


def test_bars_by_class_and_by_size():
    targets = torch.zeros(3, 10, 20, dtype=torch.long)
    predicted = targets.clone()
    targets[0, 0, :5] = 1  # 2.5 % of the image
    predicted[0, 0, :4] = 1  # IoU 4 / 5
    targets[1, 0, :4] = 1  # 2 %
    predicted[1, 0, 2:6] = 1  # IoU 2 / 6
    targets[2, :, :10] = 2
    targets[2, :, 10:] = 255
    predicted[2] = 2  # all pixels that count
    names = ["background", "absent", "cat", "dog"]  # the second class has no IoU
    for masks in (predicted, targets):
        masks[(masks > 0) & (masks < 255)] += 1
    charts = evaluation(names, predicted, targets).charts()
    assert list(charts["iou"].values) == ["cat", "background", "dog"]
    assert charts["iou"].values["cat"] == pytest.approx(6 / 11) and charts["iou"].values["dog"] == 1
    assert charts["iou_by_size"].values == {"1 - 3 %": pytest.approx((4 / 5 + 1 / 3) / 2), "30 - 100 %": 1}
    assert charts["iou_by_size"].texts["1 - 3 %"].endswith("(2)")


def test_no_metric_looks_good_if_a_logit_is_nan():
    logits, targets = torch.full((1, 3, 4, 5), torch.nan), torch.zeros(1, 4, 5, dtype=torch.long)  # argmax is 0
    one = MaskEvaluation([*"abc"])
    one.update(torch.tensor([0]), logits, targets)
    assert all(value != value for value in one.compute(by_class=True).values())
    logits[:, :, 0], targets[:, 1:] = 1.0, 255  # a NaN only where pixels are ignored
    one.update(torch.tensor([0]), logits, targets)
    assert one.compute()["miou"] == 1
