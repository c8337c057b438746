"""The verdict: pure functions of the scores on training and validation images, with their margins of error."""

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Kind = Literal["fits well", "overfits", "underfits", "too small to tell"]

GAP_THAT_MATTERS = 0.05  # between the training and the validation score; a smaller gap is not worth a change
LOW_SCORE = 0.2  # this far below the ceiling of 1, or this far above 0: see `decide`
RESAMPLES = 1000
PSEUDO_SAMPLES = 2  # added samples that are all right, and as many that are all wrong: see `margin`


class Measured(NamedTuple):
    """The scores at one validation, from 0 to 1, the higher the better.

    epoch: counted from 1.
    val, val_margin: the score of the validation images, and half of its 95 % interval.
    train, train_margin: the same of training images; `train` is None if they were not measured.
    """

    epoch: int
    val: float
    val_margin: float
    train: float | None = None
    train_margin: float = 0.0

    @property
    def gap(self) -> float:
        return (self.train or 0.0) - self.val

    @property
    def gap_margin(self) -> float:
        """Half of the 95 % interval of the gap. The errors of the two scores are independent."""
        return math.hypot(self.val_margin, self.train_margin)

    @property
    def overfits(self) -> bool:
        return self.train is not None and self.gap > max(GAP_THAT_MATTERS, self.gap_margin)


class Verdict(NamedTuple):
    """A verdict and its evidence.

    at: the validation that shows it.
    best: the validation of the best checkpoint.
    since: if the run overfits, the first epoch from which on all measured validations up to `at` show it.
    at_latest: whether the validation before `since` was not measured, so that it may have shown it as well.
    """

    kind: Kind
    at: Measured
    best: Measured
    since: int | None = None
    at_latest: bool = False

    def __str__(self) -> str:
        since = f" since epoch {self.since}{' at the latest' if self.at_latest else ''}" if self.since else ""
        after = f"; the best checkpoint, of epoch {self.best.epoch}, is from before" if self.at != self.best else ""
        epoch = f" at epoch {self.at.epoch}" if after else ""
        scores = f"train {self.at.train:.2f}, val {self.at.val:.2f} +- {self.at.val_margin:.2f}{epoch}"
        small = f": the validation set is too small for a gap of {GAP_THAT_MATTERS}"
        return f"{self.kind}{since} ({scores}){after}{small if self.kind == 'too small to tell' else ''}"


def decide(history: Sequence[Measured], best: int, up_to_one: bool = True) -> Verdict | None:
    """Return the first of these verdicts that is true of the best checkpoint.

    *Overfits*: the gap between the training and the validation score is above `GAP_THAT_MATTERS`, and above half of its
    95 % interval. If this is true only of the last validations (at least two, to exclude chance), the run overfits, but
    the best checkpoint does not.
    *Underfits*: the training score is more than `LOW_SCORE` below 1, and by more than its margin. Networks can fit even
    random labels (Zhang et al. 2017, Understanding deep learning requires rethinking generalization, section 2), so
    time, capacity or freedom was missing. If the best possible score is unknown: it is below `LOW_SCORE`.
    *Too small to tell*: the margin of the gap is above `GAP_THAT_MATTERS`, so an overfitting run could look the same.
    *Fits well*: none of these.

    Args:
        history: all validations of the run, in order.
        best: the index in `history` of the best checkpoint.
        up_to_one: whether the best possible score is 1.

    Returns:
        None if a value that the verdict needs is unknown or not finite.
    """
    kept = history[best]
    if kept.train is None or not math.isfinite(kept.train + kept.val + kept.gap_margin):
        return None
    measured = [index for index, entry in enumerate(history) if entry.train is not None]
    for last, min_count in ((best, 1), (measured[-1], 2)):
        before = (index for index in reversed(measured) if index <= last)
        overfitted = list(takewhile(lambda index: history[index].overfits, before))
        if len(overfitted) >= min_count:
            first = overfitted[-1]
            at_latest = first > 0 and history[first - 1].train is None
            return Verdict("overfits", history[last], kept, history[first].epoch, at_latest)
    if kept.train + kept.train_margin < (1 - LOW_SCORE if up_to_one else LOW_SCORE):
        return Verdict("underfits", kept, kept)
    return Verdict("too small to tell" if kept.gap_margin > GAP_THAT_MATTERS else "fits well", kept, kept)


def margin(shares: Tensor, seed: int = 0) -> float:
    """Return half of the 95 % interval of a score, by a bootstrap over the samples (Efron 1979).

    If all samples are right, all resamples are the same, however few there are. Therefore two samples that are all
    right and two that are all wrong are added (Agresti and Coull 1998, "plus four").

    Args:
        shares: Float[N 2 K], see `kit.evaluation.Evaluation.shares`.

    Returns:
        half of the interval's width; NaN if there is nothing to measure.
    """
    shares = shares.double()
    mean = (shares[:, 1].sum(0) / (shares[:, 1] > 0).sum(0).clamp(min=1)).repeat(PSEUDO_SAMPLES, 1)  # [2 K]
    right, wrong = torch.stack([mean, mean], 1), torch.stack([torch.zeros_like(mean), mean], 1)
    rows, counts = torch.cat([shares, right, wrong]).flatten(1).unique(dim=0, return_counts=True)  # [M 2*K], [M]
    # How often each distinct row is drawn. This gives what drawing the samples one by one does, but faster.
    draws = np.random.default_rng(seed).multinomial(int(counts.sum()), counts / counts.sum(), RESAMPLES)  # [R M]
    above, below = (torch.from_numpy(draws).double() @ rows).view(RESAMPLES, *shares.shape[1:]).unbind(1)  # [R K]
    low, high = (above / below).nanmean(1).nanquantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return (high - low) / 2
