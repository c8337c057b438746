"""The verdict, its text, its margin of error, and the advice."""

import math

import pytest
import torch
from score_terms import score_of

from kit.safeguards.overfitting.verdict import Scores, Verdict, advice, decide, margin_of_error


def measured(epoch: int, train: float, val: float, val_margin: float = 0.02, train_margin: float = 0.0):
    return Scores(epoch, val, val_margin, train, train_margin)


HISTORIES = [  # the measurements, the index of the best checkpoint, and the start of the verdict
    ([(1, 0.9, 0.88)], 0, "fits well (train 0.90, val 0.88 +- 0.02)"),
    ([(1, 1.0, 1.0)], 0, "fits well (train 1.00, val 1.00 +- 0.02)"),
    ([(1, 0.85, 0.9)], 0, "fits well (train 0.85, val 0.90 +- 0.02)"),
    # A gap that is surely there, and too small to matter.
    ([(1, 0.95, 0.91, 0.001)], 0, "fits well (train 0.95, val 0.91 +- 0.00)"),
    ([(1, 0.99, 0.81, 0.03)], 0, "overfits since epoch 1 (train 0.99, val 0.81 +- 0.03)"),
    (
        [(1, 0.5, 0.5), (2, 0.8, 0.74), (3, 0.85, 0.82), (4, 0.9, 0.82), (5, 0.95, 0.84), (6, 0.99, 0.81)],
        4,
        "overfits since epoch 4 (train 0.95, val 0.84 +- 0.02)",
    ),
    # Only after the checkpoint that is kept.
    (
        [(1, 0.5, 0.5), (2, 0.82, 0.8), (3, 0.9, 0.78), (4, 0.99, 0.71)],
        1,
        "overfits since epoch 3 (train 0.99, val 0.71 +- 0.02 at epoch 4); "
        "the best checkpoint, of epoch 2, does not overfit",
    ),
    ([(1, 0.5, 0.5), (2, 0.82, 0.8), (3, 0.99, 0.71)], 1, "fits well"),  # once, after the best: it may be chance
    # Within chance: a gap of 0.09 where the interval of the gap is 0.1.
    ([(1, 0.95, 0.86, 0.1)], 0, "too small to tell (train 0.95, val 0.86 +- 0.10): the validation set is too small"),
    ([(1, 0.9, 0.9, 0.09)], 0, "too small to tell (train 0.90, val 0.90 +- 0.09)"),
    # The training images are a sample, too: 0.045 and 0.045 make 0.064.
    ([(1, 0.92, 0.86, 0.045, 0.045)], 0, "too small to tell"),
    ([(1, 0.92, 0.86, 0.045, 0.0)], 0, "overfits since epoch 1"),
    # A gap that is too large for chance, however small the validation set.
    ([(1, 1.0, 0.6, 0.2)], 0, "overfits since epoch 1 (train 1.00, val 0.60 +- 0.20)"),
    ([(0, 1.0, 0.6)], 0, "overfits since epoch 0 (train 1.00"),  # before the first step, with a fitted head
    ([(1, 0.1, 0.08), (2, 0.12, 0.11)], 1, "underfits (train 0.12, val 0.11 +- 0.02)"),
    ([(1, 0.79, 0.79)], 0, "underfits"),
    ([(1, 0.81, 0.81)], 0, "fits well"),
    ([(1, 0.79, 0.79, 0.02, 0.02)], 0, "fits well"),  # it may be 0.81
    ([(1, 0.1, 0.1, 0.2, 0.2)], 0, "underfits"),
    ([(1, 0.6, 0.4)], 0, "overfits since epoch 1"),  # both, and more freedom would make the gap wider
    # Some validations have no training score.
    ([(1, 0.95, 0.8), (2, math.nan, 0.8), (3, 0.99, 0.8)], 2, "overfits since epoch 3 (train 0.99"),
    ([(1, 0.8, 0.8), (2, math.nan, 0.85), (3, 0.88, 0.86), (4, math.nan, 0.8)], 2, "fits well (train 0.88"),
]


@pytest.mark.parametrize(("history", "best", "text"), HISTORIES)
def test_verdicts(history, best, text):
    verdict = decide([measured(*values) for values in history], best)
    assert str(verdict).startswith(text) and text.startswith(verdict.kind)


def test_no_verdict_if_the_best_checkpoint_was_not_measured():
    assert decide([measured(1, 0.9, 0.9), measured(2, math.nan, 0.95)], 1) is None


def accuracy(right: int, wrong: int) -> torch.Tensor:
    hits = torch.tensor([1.0] * right + [0.0] * wrong)
    return torch.stack([hits, torch.ones_like(hits)], 1)[..., None]


@pytest.mark.parametrize(("right", "wrong"), [(180, 20), (500, 500), (9500, 500)])
def test_margin_of_an_accuracy_agrees_with_the_binomial_distribution(right, wrong):
    count = right + wrong
    share = (right + 2) / (count + 4)
    by_hand = 1.96 * math.sqrt(share * (1 - share) / (count + 4))
    assert margin_of_error(accuracy(right, wrong)) == pytest.approx(by_hand, rel=0.1)


def test_margin_if_all_samples_are_right_is_within_the_rule_of_three_and_not_0():
    for count in (20, 144, 1000):
        assert 0.4 * 3 / count < margin_of_error(accuracy(count, 0)) < 3 / count


def test_interval_covers_the_true_accuracy():
    """About 190 of 200 validation sets of 100 images cover the true accuracy of 0.8."""
    generator = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        right = int((torch.rand(100, generator=generator) < 0.8).sum())
        covered += abs(right / 100 - 0.8) <= margin_of_error(accuracy(right, 100 - right))
    assert covered >= 184


def test_underfitting_if_the_best_possible_score_is_unknown():
    low = [measured(1, 0.5, 0.5, 0.01)]
    assert decide(low, 0).kind == "underfits" and decide(low, 0, has_known_maximum=False).kind == "fits well"
    nothing = [measured(1, 0.05, 0.05, 0.01)]
    assert decide(nothing, 0, has_known_maximum=False).kind == "underfits"
    high = [measured(1, 0.7, 0.5, 0.01)]
    assert decide(high, 0, has_known_maximum=False).kind == "overfits"


def test_margin_does_not_depend_on_the_order_of_samples():
    shares = torch.rand(50, 2, 4).double()
    assert margin_of_error(shares) == margin_of_error(shares.flip(0))


def test_score_of_shares_by_hand():
    """Class 0: 3 of 6; class 1: 3 of 5; class 2 does not occur and is left out."""
    shares = torch.tensor([[[1, 2, 0], [3, 3, 0]], [[2, 1, 0], [3, 2, 0]]])
    assert score_of(shares) == pytest.approx((3 / 6 + 3 / 5) / 2)
    assert math.isfinite(margin_of_error(shares))


def net(**options):
    return {"net": {"class_path": "a.Net", "init_args": options}}


ADVICE = [  # the verdict, the task's arguments, augmented, the first suggestions, and a text in no suggestion
    ("overfits", net(dropout=0.0), False, ["--data.augment+=", "--model.net.dropout 0.3"], "mixing"),
    ("overfits", {**net(dropout=0.0), "mixing": None}, True, ["--model.mixing+="], "data.augment+="),
    ("overfits", net(dropout=0.3), True, ["stronger augmentation"], "drop"),
    ("overfits", {"net": lambda: None}, True, ["stronger augmentation", "more training images"], "--"),
    ("underfits", net(dropout=0.5), True, ["longer training", "a larger net", "--model.net.dropout 0"], "augment"),
    ("underfits", {}, False, ["longer training", "a larger net"], "dropout"),
    ("too small to tell", {}, False, ["a validation set 4 times as large"], "--"),
    ("fits well", {}, False, [], "--"),
]


@pytest.mark.parametrize(("kind", "model", "augmented", "first", "absent"), ADVICE)
def test_advice(kind, model, augmented, first, absent):
    at = measured(3, 0.9, 0.8, 0.09)
    suggestions = advice(Verdict(kind, at, at), model, augmented)
    assert len(suggestions) >= len(first) and not any(absent in text for text in suggestions), suggestions
    assert all(text.startswith(start) for text, start in zip(suggestions, first, strict=False)), suggestions
    assert len([text for text in suggestions if text.startswith("--")]) <= 3


def test_no_verdict_if_a_value_is_not_finite():
    nothing = torch.zeros(3, 2, 2)
    assert math.isnan(margin_of_error(nothing))
    for values in ((0.0, math.nan, 0.0, math.nan), (0.5, 0.1, math.nan, 0.1), (math.nan, 0.1, 0.5, 0.1)):
        assert decide([Scores(1, *values)], 0) is None


def test_margin_if_few_samples_can_be_measured():
    shares = torch.zeros(40, 2, 1)
    shares[0] = 1  # some resamples do not contain this sample
    assert 0 < margin_of_error(shares) < 1
