"""Whether a run fits its data, and how sure that is: pure functions of what was measured."""

import math
from collections.abc import Sequence
from itertools import takewhile
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Kind = Literal["fits well", "overfits", "underfits", "too small to tell"]

TOLERATED = 0.05  # a smaller gap between training and validation is not worth a change to the run
FAR = 0.2  # below the ceiling of 1, or above nothing: see `decide`
RESAMPLES = 1000
IMAGINARY = 2  # samples that are all right, and as many that are all wrong: see `margin`


class Measured(NamedTuple):
    """A validation; all are fractions, the higher the better.

    epoch: from 1.
    val_margin, train_margin: half the 95 % interval of each.
    train: of training images, measured as `val` is; None where that was left out.
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
        """Half the 95 % interval of the gap: the two parts are apart, and their errors independent."""
        return math.hypot(self.val_margin, self.train_margin)

    @property
    def overfits(self) -> bool:
        return self.train is not None and self.gap > max(TOLERATED, self.gap_margin)


class Verdict(NamedTuple):
    """A verdict and what shows it.

    at: the validation that shows it.
    best: the one that is kept.
    since: for a run that overfits, the epoch from which on all that were measured, up to `at`, show it.
    at_latest: whether the validation before `since` was not measured, so that it may have shown it too.
    """

    kind: Kind
    at: Measured
    best: Measured
    since: int | None = None
    at_latest: bool = False

    def __str__(self) -> str:
        since = f" since epoch {self.since}{' at the latest' if self.at_latest else ''}" if self.since else ""
        after = f"; the best checkpoint, of epoch {self.best.epoch}, is from before" if self.at != self.best else ""
        where = f" at epoch {self.at.epoch}" if after else ""
        evidence = f"train {self.at.train:.2f}, val {self.at.val:.2f} +- {self.at.val_margin:.2f}{where}"
        why = f": the validation set is too small for a gap of {TOLERATED}" if self.kind == "too small to tell" else ""
        return f"{self.kind}{since} ({evidence}){after}{why}"


def decide(history: Sequence[Measured], best: int, up_to_one: bool = True) -> Verdict | None:
    """Return the first of these verdicts that holds for the best checkpoint; None if a value that they need is unknown
    or not finite.

    *Overfits*: the gap between training and validation is above `TOLERATED`, and so is surely there: above half the
    95 % interval of a difference. If this holds only later, at the last validations, two or more so that chance has not
    many chances, the run overfits, but the checkpoint that is kept does not.
    *Underfits*: the training metric is surely more than `FAR` below 1. Nets fit even random labels (Zhang et al. 2017,
    Understanding deep learning requires rethinking generalization, section 2), so that it is not the data but time,
    capacity or freedom that was missing. Where nobody knows the best: it is surely below `FAR`, so that next to nothing
    was learned.
    *Too small to tell*: the interval is wider than the gap that is tolerated, so that an overfitting run could look
    like this one.
    *Fits well*: none of these.

    Args:
        history: all validations of the run, in their order.
        best: the place in `history` of the one that is kept.
        up_to_one: whether the metric can be 1, so that what is missing says something.
    """
    kept = history[best]
    if kept.train is None or not math.isfinite(kept.train + kept.val + kept.gap_margin):
        return None
    known = [place for place, measured in enumerate(history) if measured.train is not None]
    for place, least in ((best, 1), (known[-1], 2)):
        shown = list(takewhile(lambda k: history[k].overfits, (k for k in reversed(known) if k <= place)))
        if len(shown) >= least:
            first = shown[-1]
            at_latest = first > 0 and history[first - 1].train is None
            return Verdict("overfits", history[place], kept, history[first].epoch, at_latest)
    if kept.train + kept.train_margin < (1 - FAR if up_to_one else FAR):
        return Verdict("underfits", kept, kept)
    if kept.gap_margin > TOLERATED:
        return Verdict("too small to tell", kept, kept)
    return Verdict("fits well", kept, kept)


def margin(shares: Tensor, seed: int = 0) -> float:
    """Half the 95 % interval of a metric, by resampling the samples (Efron 1979; percentiles of 1,000 resamples).

    Where all samples are alike, as when all are right, resamples are too, however few there are. So two imaginary
    samples that are right and two that are wrong are added (Agresti and Coull 1998, for a share: "plus four").

    Args:
        shares: Float[N 2 K], see `of`.

    Returns:
        half the width of the interval; NaN if the samples have nothing to measure
    """
    shares = shares.double()
    usual = (shares[:, 1].sum(0) / (shares[:, 1] > 0).sum(0).clamp(min=1)).repeat(IMAGINARY, 1)  # [2 K]
    right, wrong = torch.stack([usual, usual], 1), torch.stack([torch.zeros_like(usual), usual], 1)
    rows, counts = torch.cat([shares, right, wrong]).flatten(1).unique(dim=0, return_counts=True)  # [M 2*K], [M]
    # How often each kind of sample is drawn: as if they were drawn one by one, in less time.
    drawn = np.random.default_rng(seed).multinomial(int(counts.sum()), counts / counts.sum(), RESAMPLES)  # [R M]
    above, below = (torch.from_numpy(drawn).double() @ rows).view(RESAMPLES, *shares.shape[1:]).unbind(1)  # [R K]
    low, high = (above / below).nanmean(1).nanquantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return (high - low) / 2


def of(shares: Tensor) -> float:
    """The metric that samples make: the mean, over K, of what is right of what there is; 0/0 is left out.

    Args:
        shares: Float[N 2 K]: of each sample, and each of K (the classes, or one), what is right and what there is.
            Of accuracy 1 or 0, and 1; of mean IoU a class's intersection and union in the sample.
    """
    right, all_there = shares.double().sum(0)
    return float((right / all_there).nanmean())
