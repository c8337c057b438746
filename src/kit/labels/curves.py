"""Precision-recall curves and reliability diagrams of probabilities."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from kit.charts import Curves

BINS = 15  # the number of bins of probabilities, as in Guo et al. 2017
RECALLS = (torch.arange(101).double() / 100).clamp(min=1e-6)  # the recalls at which precision-recall curves have points


class Ranking(NamedTuple):
    """The scores of N samples in descending order, for one class or for K classes, each with its own order.

    scores: Float[N] or Float[N K].
    hits: the number of positive samples among the first n, for n = 1 to N, Float64, of the same shape.
    is_last: whether a sample is the last one with its score, Bool, of the same shape.
    """

    scores: Tensor
    hits: Tensor
    is_last: Tensor


def rank_samples(scores: Tensor, is_positive: Tensor) -> Ranking:
    """Sort scores, Float[N] or Float[N K]. is_positive: which samples are positive, Bool, of the same shape."""
    order = scores.argsort(dim=0, descending=True, stable=True)
    scores = scores.gather(0, order)
    is_last = torch.cat([scores[1:] != scores[:-1], torch.ones_like(scores[:1], dtype=torch.bool)])
    return Ranking(scores, is_positive.gather(0, order).double().cumsum(0), is_last)


def average_precision(ranking: Ranking) -> Tensor:
    """Return the average precision, Float[] or Float[K]; NaN for a class without positive samples."""
    hits, is_last = ranking.hits.movedim(0, -1), ranking.is_last.movedim(0, -1)  # [N] or [K N]
    # Samples with equal scores are one group. Only complete groups count, since the order in a group has no meaning.
    complete_hits = hits.where(is_last, 0).cummax(-1).values
    gains = complete_hits.diff(dim=-1, prepend=torch.zeros_like(complete_hits[..., :1]))
    return (gains * hits / torch.arange(1, hits.shape[-1] + 1)).sum(-1) / hits[..., -1]


def class_precisions(class_names: Sequence[str], rankings: Iterable[Ranking]) -> dict[str, tuple[float, Tensor]]:
    """Return the average precision of each class that has positive samples, and its precisions at `RECALLS`.

    Args:
        rankings: the ranking of each of the classes.
    """
    classes = {}
    for name, ranking in zip(class_names, rankings, strict=True):
        if positives := int(ranking.hits[-1]):
            # The number of positive samples, and the rank, at the end of each group of equal scores.
            hits, ranks = ranking.hits[ranking.is_last], ranking.is_last.nonzero()[:, 0] + 1
            groups = torch.searchsorted(hits / positives, RECALLS)  # the first group that reaches each recall
            classes[name] = (float(average_precision(ranking)), (hits / ranks)[groups])
    return classes


def reliability(probabilities: Tensor, is_right: Tensor, x_label: str, y_label: str) -> Curves:
    """Return a reliability diagram: the mean probability and the share of right predictions in bins of probabilities.

    The title has the expected calibration error (Naeini et al. 2015; Guo et al. 2017): the mean difference of the two,
    weighted by the number of predictions in each bin.

    Args:
        probabilities: the probabilities of M predictions, Float[M].
        is_right: whether each prediction is right, Bool[M].
    """
    bins = (probabilities * BINS).long().clamp(0, BINS - 1)
    counts = torch.bincount(bins, minlength=BINS)
    sums = [torch.bincount(bins, weights=values.double(), minlength=BINS) for values in (probabilities, is_right)]
    means, right_shares = (total / counts for total in sums)  # NaN for an empty bin
    error = float(((right_shares - means).abs() * counts).nansum() / counts.sum())
    title = f"Reliability: the expected calibration error is {error:.1%}"
    curves = {
        y_label: (means[counts > 0], right_shares[counts > 0]),
        "share of predictions": ((torch.arange(BINS) + 0.5) / BINS, counts / counts.sum()),
    }
    return Curves(title, x_label, y_label, curves, y_label, (0, 1), (0, 1.02), diagonal=True)
