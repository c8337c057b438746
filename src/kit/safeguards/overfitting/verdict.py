"""Decide whether a run overfits, underfits or fits well, from its scores, and suggest changes for the next run."""

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

Kind = Literal["fits well", "overfits", "underfits", "too small to tell"]

GAP_THAT_MATTERS = 0.05  # a smaller gap between the training and the validation score is not worth a change
MIN_TRAIN_SCORE = 0.8  # see `decide`
MIN_TRAIN_SCORE_OF_UNKNOWN_SCALE = 0.2
RESAMPLES = 1000  # of the bootstrap, see `margin_of_error`
PSEUDO_SAMPLES = 2  # see `margin_of_error`


class Scores(NamedTuple):
    """The scores at one validation, from 0 to 1; higher is better.

    The margin of error of a score is half of the width of its 95 % interval.

    epoch: the number of the epoch, from 1, or 0 before the first step.
    val: the score of the validation images.
    val_margin: the margin of error of `val`.
    train: the score of the training images, or NaN if they have none.
    train_margin: the margin of error of `train`.
    """

    epoch: int
    val: float
    val_margin: float
    train: float
    train_margin: float

    @property
    def gap(self) -> float:
        """The training score minus the validation score."""
        return self.train - self.val

    @property
    def gap_margin(self) -> float:
        """The margin of error of the gap. The errors of the two scores are independent."""
        return math.hypot(self.val_margin, self.train_margin)

    @property
    def overfits(self) -> bool:
        """Whether the gap matters and exceeds its margin of error."""
        return self.gap > max(GAP_THAT_MATTERS, self.gap_margin)


class Verdict(NamedTuple):
    """A verdict and its evidence.

    kind: the verdict.
    evidence: the scores at the validation that shows the verdict.
    best: the scores at the validation of the best checkpoint.
    first_epoch: the epoch in which overfitting began, or None if the run does not overfit.
    """

    kind: Kind
    evidence: Scores
    best: Scores
    first_epoch: int | None = None

    def __str__(self) -> str:
        evidence = self.evidence
        since = f" since epoch {self.first_epoch}" if self.first_epoch is not None else ""
        note = f"; the best checkpoint, of epoch {self.best.epoch}, does not overfit" if evidence != self.best else ""
        epoch = f" at epoch {evidence.epoch}" if note else ""
        scores = f"train {evidence.train:.2f}, val {evidence.val:.2f} +- {evidence.val_margin:.2f}{epoch}"
        reason = f": the validation set is too small to show a gap of {GAP_THAT_MATTERS}"
        return f"{self.kind}{since} ({scores}){note}{reason if self.kind == 'too small to tell' else ''}"


def decide(history: Sequence[Scores], best: int, has_known_maximum: bool = True) -> Verdict | None:
    """Return the first of these verdicts that applies to the best checkpoint.

    *Overfits*: the gap between the training and the validation score is above `GAP_THAT_MATTERS` and above its margin
    of error. This verdict also applies if the best checkpoint does not overfit, but at least the last two validations
    do.
    *Underfits*: the training score is below `MIN_TRAIN_SCORE` by more than its margin of error. The limit is
    `MIN_TRAIN_SCORE_OF_UNKNOWN_SCALE` if the best possible score is unknown. Networks can fit even random labels (Zhang
    et al. 2017, Understanding deep learning requires rethinking generalization, section 2), so a low score shows a lack
    of training time or capacity.
    *Too small to tell*: the margin of error of the gap is above `GAP_THAT_MATTERS`, so overfitting could go unnoticed.
    *Fits well*: none of these.

    Args:
        history: all validations of the run, in order.
        best: the index in `history` of the best checkpoint's validation.
        has_known_maximum: whether the best possible score is known to be 1.

    Returns:
        the verdict, or None if a score of the best checkpoint is unknown or not finite.
    """
    scores = history[best]
    if not math.isfinite(scores.gap + scores.gap_margin):
        return None
    for validations, min_count in ((history[: best + 1], 1), (history, 2)):
        overfit_validations = list(takewhile(lambda validation: validation.overfits, reversed(validations)))
        if len(overfit_validations) >= min_count:
            return Verdict("overfits", overfit_validations[0], scores, overfit_validations[-1].epoch)
    min_train_score = MIN_TRAIN_SCORE if has_known_maximum else MIN_TRAIN_SCORE_OF_UNKNOWN_SCALE
    if scores.train + scores.train_margin < min_train_score:
        return Verdict("underfits", scores, scores)
    return Verdict("too small to tell" if scores.gap_margin > GAP_THAT_MATTERS else "fits well", scores, scores)


def margin_of_error(score_terms: Tensor, seed: int = 0) -> float:
    """Return a score's margin of error: half of the width of its 95 % interval, by a bootstrap (Efron 1979).

    If all of a few samples are predicted correctly, the bootstrap alone would give 0. Therefore, `PSEUDO_SAMPLES`
    correct samples and as many incorrect ones are added (Agresti and Coull 1998, "plus four").

    Args:
        score_terms: the contribution of each sample to the score, Float[N 2 K], see `kit.evaluation.Evaluation`.
        seed: the seed of the bootstrap.

    Returns:
        the margin of error, or NaN if no sample counts.
    """
    score_terms = score_terms.double()
    # A pseudo-sample has the mean of the denominators that are not 0: [PSEUDO_SAMPLES K].
    mean = (score_terms[:, 1].sum(0) / (score_terms[:, 1] > 0).sum(0).clamp(min=1)).repeat(PSEUDO_SAMPLES, 1)
    right, wrong = torch.stack([mean, mean], 1), torch.stack([torch.zeros_like(mean), mean], 1)
    rows, counts = torch.cat([score_terms, right, wrong]).flatten(1).unique(dim=0, return_counts=True)  # [M 2*K], [M]
    # For each of R resamples, draw how often each of the M distinct rows occurs. This has the same distribution as
    # drawing the samples one by one, and is faster.
    draws = np.random.default_rng(seed).multinomial(int(counts.sum()), counts / counts.sum(), RESAMPLES)  # [R M]
    sums = (torch.from_numpy(draws).double() @ rows).view(RESAMPLES, *score_terms.shape[1:])  # [R 2 K]
    numerators, denominators = sums.unbind(1)
    low, high = (numerators / denominators).nanmean(1).nanquantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return (high - low) / 2


# The largest number of suggested changes to the config or the net. More images may be suggested, too. With more changes
# at a time, it would be unclear which one helped.
MAX_CHANGES = 3
# Arguments of tasks and nets that reduce overfitting, with a common value for each.
REGULARIZERS = {"net.dropout": 0.3, "net.drop_rate": 0.3, "net.drop_path_rate": 0.1, "label_smoothing": 0.1}


def advice(verdict: Verdict, model: Mapping[str, Any], is_augmented: bool) -> list[str]:
    """Return suggestions for the next run, with the most promising one first.

    Args:
        verdict: the verdict about this run.
        model: the task's arguments in the form of a config: an object is a dict of `class_path` and `init_args`.
        is_augmented: whether training images are augmented.
    """
    net = model.get("net")
    net_arguments = net.get("init_args", {}) if isinstance(net, Mapping) else {}
    values = {**model, **{f"net.{key}": value for key, value in net_arguments.items()}}
    regularizers = {key: value for key, value in REGULARIZERS.items() if key in values}
    if verdict.kind == "overfits":
        flip = "--data.augment+=torchvision.transforms.v2.RandomHorizontalFlip (if a mirrored image keeps its label)"
        changes = [] if is_augmented else [flip]
        if "mixing" in values and values["mixing"] is None:
            changes.append("--model.mixing+=torchvision.transforms.v2.MixUp")
        changes += [f"--model.{key} {value}" for key, value in regularizers.items() if not values[key]]
        if is_augmented:
            changes.append("stronger augmentation (data.augment)")
        return [*changes[:MAX_CHANGES], "more training images"]
    if verdict.kind == "underfits":
        changes = ["longer training (trainer.max_epochs or max_steps, early_stopping.patience)", "a larger net"]
        return [*changes, *(f"--model.{key} 0" for key in regularizers if values[key])][:MAX_CHANGES]
    if verdict.kind == "too small to tell":
        return [f"a validation set {math.ceil((verdict.evidence.gap_margin / GAP_THAT_MATTERS) ** 2)} times as large"]
    return []
