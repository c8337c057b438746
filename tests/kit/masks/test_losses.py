import math

import pytest
import torch
from torch.nn import functional as F

from kit.masks import CrossEntropy, Dice, Focal

LOSSES = [CrossEntropy(), CrossEntropy(label_smoothing=0.2), Focal(), Dice()]


def batch(num_classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits [2 K 4 5] and targets [2 4 5], a third of which is ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, num_classes, 4, 5, generator=generator)
    targets = torch.randint(0, num_classes, (2, 4, 5), generator=generator)
    targets[torch.rand(2, 4, 5, generator=generator) < 0.3] = 255
    return logits, targets


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_cross_entropy_equals_torch(smoothing, weights):
    logits, targets = batch()
    expected = F.cross_entropy(logits, targets, weights, ignore_index=255, label_smoothing=smoothing)
    assert torch.allclose(CrossEntropy(label_smoothing=smoothing)(logits, targets, weights), expected)
    assert torch.allclose(CrossEntropy(0.5, smoothing)(logits, targets, weights), expected / 2)


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_focal_with_gamma_0_is_cross_entropy(weights):
    logits, targets = batch()
    expected = F.cross_entropy(logits, targets, weights, ignore_index=255)
    assert torch.allclose(Focal(gamma=0)(logits, targets, weights), expected)


def test_focal_equals_manual_result():
    """One pixel of which the net is sure to three quarters: -(1/4)^2 ln(3/4)."""
    logits = torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    value = Focal(gamma=2)(logits, torch.zeros(1, 1, 1, dtype=torch.long))
    assert value.item() == pytest.approx(-math.log(0.75) / 16)


def test_dice_equals_manual_result():
    """Two pixels and an ignored one, shares of class 1 being 3/4, 1/4, 3/4; the first is of class 1, the other of 0."""
    logits = torch.tensor([[0.0, 0.0, 0.0], [math.log(3), -math.log(3), math.log(3)]]).view(1, 2, 1, 3)
    targets = torch.tensor([1, 0, 255]).view(1, 1, 3)
    # Of each class: 2 * 3/4 over (3/4 + 1/4) + 1.
    assert Dice(smooth=0)(logits, targets).item() == pytest.approx(1 - 1.5 / 2)
    assert Dice(smooth=1)(logits, targets).item() == pytest.approx(1 - 2.5 / 3)
    alone = targets.where(targets != 0, 1)  # class 0 is not shown: it has no part in the mean
    assert Dice(smooth=0)(logits, alone).item() == pytest.approx(1 - 2 * 1 / (1 + 2))
    weights = torch.tensor([0.0, 3.0])
    assert Dice(smooth=0)(logits, targets, weights).item() == pytest.approx(1 - 1.5 / 2)


def test_dice_is_a_mean_over_images_not_over_pixels():
    logits, targets = batch()
    each = [Dice()(logits[i : i + 1], targets[i : i + 1]) for i in range(2)]
    assert torch.allclose(Dice()(logits, targets), torch.stack(each).mean())


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 5.0])])
def test_ignored_pixels_do_not_change_the_loss(loss, weights):
    logits, targets = batch()
    changed = torch.where((targets == 255)[:, None], 100 * torch.randn_like(logits), logits)
    assert torch.allclose(loss(logits, targets, weights), loss(changed, targets, weights))
    nothing = torch.full_like(targets, 255)
    logits.requires_grad_()
    value = loss(logits, nothing, weights)
    value.backward()
    assert value == 0 and torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", [*LOSSES, Focal(gamma=0.5)])
def test_loss_of_perfect_logits_is_small_and_finite(loss):
    _, targets = batch()
    logits = 60 * F.one_hot(targets.where(targets != 255, 0), 3).permute(0, 3, 1, 2).float().requires_grad_()
    value = loss(logits, targets, None)
    value.backward()
    assert value < (0.2 * 60 if getattr(loss, "label_smoothing", 0) else 0.01)


@pytest.mark.parametrize("loss", LOSSES, ids=repr)
def test_sums_over_pixels_do_not_overflow_in_float16(loss):
    logits, targets = torch.zeros(1, 3, 256, 300), torch.zeros(1, 256, 300, dtype=torch.long)
    weights = torch.tensor([2.0, 1.0, 1.0])
    half = loss.terms(logits.half(), targets, weights.half())
    for value, expected in zip(half, loss.terms(logits, targets, weights), strict=True):
        assert float(value) == pytest.approx(float(expected), rel=1e-3)
