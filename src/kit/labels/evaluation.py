"""The metrics of images with one label, and of images with several labels."""

import itertools
from collections.abc import Sequence

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F

from kit.charts import Bars, Chart, Matrix, precision_recall
from kit.evaluation import Evaluation
from kit.labels.curves import RECALLS, Ranking, average_precision, class_precisions, rank_samples, reliability

TOP = 5  # `accuracy_top5` counts an image as correct if its class has one of the 5 highest logits
MAX_CONFUSION_CLASSES = 1000  # for more classes, the confusion matrix would be too large
MAX_CURVE_CLASSES = 100  # for more classes, storing the probabilities of all classes would take too much memory


class LabelEvaluation(Evaluation):
    """Cross-entropy (`loss`), `accuracy`, macro `f1` and, for more than five classes, `accuracy_top5`.

    `f1` is the mean F1 score of the classes that occur in the targets or in the predictions. All metrics are NaN if a
    logit is NaN.
    `outputs` are logits, Float[B K], and `targets` class numbers, Long[B]. An entry is Float[5]: the loss, the class
    with the highest logit, the target, 1 or 0 (whether the target has one of the five highest logits), and the
    probability of the predicted class. If there are at most `MAX_CURVE_CLASSES` classes, all K probabilities follow.
    """

    score_name = "accuracy"

    def entries(self, outputs: Tensor, targets: Tensor) -> Tensor:
        losses = F.cross_entropy(outputs, targets, reduction="none").float()
        top_classes = outputs.topk(min(TOP, outputs.shape[1])).indices
        is_in_top = (top_classes == targets[:, None]).any(1)
        probabilities = outputs.float().softmax(1)
        # Floats hold class numbers up to 2^24 exactly.
        columns = [losses, outputs.argmax(1).float(), targets.float(), is_in_top.float(), probabilities.amax(1)]
        all_classes = probabilities[:, : outputs.shape[1] if outputs.shape[1] <= MAX_CURVE_CLASSES else 0]
        return torch.cat([torch.stack(columns, 1), all_classes], 1)

    def compute(self, by_class: bool = False) -> dict[str, float]:
        if not len(self):
            return {}
        losses, is_in_top = self.rows[:, 0].double(), self.rows[:, 3].double()
        correct, annotated, predicted = self.once(self._counts)
        occurrences = annotated + predicted
        f1_of_classes = 2 * correct / occurrences.clamp(min=1)  # 0 for a class that does not occur
        values = {
            "loss": float(losses.mean()),
            "accuracy": int(correct.sum()) / len(self),
            "f1": float((f1_of_classes / (occurrences > 0).sum()).sum()),
        }
        if len(self.class_names) > TOP:
            values["accuracy_top5"] = float(is_in_top.mean())
        if by_class:
            rows = zip(self.class_names, (correct / annotated).tolist(), annotated.tolist(), strict=True)
            values |= {f"accuracy/{name}": accuracy for name, accuracy, count in rows if count}
        has_nan = bool(self.rows[:, 4].isnan().any())
        return dict.fromkeys(values, float("nan")) if has_nan else values

    def score_terms(self) -> Tensor:
        predicted, targets = self._classes()
        correct = (predicted == targets).double()
        return torch.stack([correct, torch.ones_like(correct)], 1)[..., None]

    def badness(self) -> tuple[str, Tensor]:
        return "loss", self.rows[:, 0]

    def class_counts(self) -> tuple[str, Tensor]:
        return "images", self.once(self._counts)[1]

    def charts(self) -> dict[str, Chart]:
        """Return `confusion`, `reliability`, `precision_recall` (each class against the rest) and `accuracy`.

        If a probability is NaN, `reliability` and `precision_recall` are left out.
        """
        if not len(self):
            return {}
        charts: dict[str, Chart] = {}
        predicted, targets = self._classes()
        if (num_classes := len(self.class_names)) <= MAX_CONFUSION_CLASSES:
            cells = torch.bincount(targets * num_classes + predicted, minlength=num_classes**2)
            matrix = cells.view(num_classes, num_classes)
            charts["confusion"] = Matrix("Confusion matrix", matrix, self.class_names, "images")
        has_probabilities = not self.rows[:, 4].isnan().any()
        if has_probabilities:
            labels = "probability of the predicted class", "share that is right"
            charts["reliability"] = reliability(self.rows[:, 4], predicted == targets, *labels)
        if has_probabilities and num_classes <= MAX_CURVE_CLASSES:
            rankings = (rank_samples(scores, targets == k) for k, scores in enumerate(self.rows[:, 5:].T))
            charts["precision_recall"] = precision_recall("mAP", RECALLS, class_precisions(self.class_names, rankings))
        correct, annotated, _ = (counts.tolist() for counts in self.once(self._counts))
        rows = zip(self.class_names, correct, annotated, strict=True)
        classes = sorted((right / count, name, count) for name, right, count in rows if count)
        texts = {name: f"{accuracy:.0%} of {count:,}" for accuracy, name, count in classes}
        values = {name: accuracy for accuracy, name, _ in classes}
        charts["accuracy"] = Bars("Accuracy of each class", "share of its images that are right", values, texts)
        return charts

    def _counts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the numbers of correct images, of images and of predictions of each class, Long[K] each."""
        predicted, targets = self._classes()
        values = targets[predicted == targets], targets, predicted
        counts = [torch.bincount(part, minlength=len(self.class_names)) for part in values]
        return counts[0], counts[1], counts[2]

    def _classes(self) -> tuple[Tensor, Tensor]:
        """Return the predicted classes and the targets, Long[N] each."""
        predicted, targets = self.rows[:, 1:3].long().unbind(1)
        return predicted, targets


class MultiLabelEvaluation(Evaluation):
    """Binary cross-entropy (`loss`), the mean average precision `map`, and the macro `f1`.

    `map` and `f1` are means over the classes that some image has. The average precision of a class is the mean of the
    precisions at the ranks of its images, as in scikit-learn. `f1` counts a label as predicted if its probability is at
    least the threshold of its class. All metrics are NaN if a logit is NaN.

    `outputs` are logits, Float[B K], and `targets` are 0 or 1, Float[B K]. An entry is Float[2K]: logits and targets.

    Args:
        class_names: the names of the classes.
        thresholds: the threshold of each class, Float[K]. By default, each class has the threshold with the highest F1
            score in these samples.
    """

    score_name = "f1"
    why_unmeasured = "no validation image has a label"

    def __init__(self, class_names: Sequence[str], thresholds: Tensor | None = None) -> None:
        super().__init__(class_names)
        self._given_thresholds = None if thresholds is None else thresholds.detach().cpu()

    def entries(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.cat([outputs.float(), targets.float()], 1)

    @property
    def thresholds(self) -> Tensor:
        """The threshold of each class, Float[K]: a probability."""
        return self.once(self._best_thresholds) if self._given_thresholds is None else self._given_thresholds

    def compute(self, by_class: bool = False) -> dict[str, float]:
        if not len(self):
            return {}
        values = {"loss": float(self._losses().double().mean())}
        precision = average_precision(self.once(self._ranking))
        f1 = torch.div(*self.score_terms().sum(0))  # NaN for a class without positive samples
        if precision.isfinite().any():
            values |= {"map": float(precision.nanmean()), "f1": float(f1.nanmean())}
        if by_class:
            missing = [name for name, value in zip(self.class_names, precision.tolist(), strict=True) if value != value]
            if missing:
                rank_zero_warn(f"the metrics leave out classes that no image has: {', '.join(missing[:10])}")
            for key, class_values in (("map", precision), ("f1", f1), ("threshold", self.thresholds)):
                pairs = zip(self.class_names, class_values.tolist(), strict=True)
                values |= {f"{key}/{name}": value for name, value in pairs if name not in missing}
        has_nan = bool(self.rows.isnan().any())
        return dict.fromkeys(values, float("nan")) if has_nan else values

    def score_terms(self) -> Tensor:
        """Return 2 TP and 2 TP + FP + FN of each sample and class, Float[N 2 K]; 0 for a class that no sample has."""
        logits, targets = self._logits_and_targets()
        predicted, targets = logits.double().sigmoid() >= self.thresholds, targets > 0.5
        return torch.stack([2.0 * (predicted & targets), (predicted.double() + targets) * targets.any(0)], 1).double()

    def class_counts(self) -> tuple[str, Tensor]:
        return "images", self._logits_and_targets()[1].sum(0).long()

    def badness(self) -> tuple[str, Tensor]:
        return "loss", self._losses()

    def charts(self) -> dict[str, Chart]:
        """Return `precision_recall`, and the `reliability` of the probabilities of all labels.

        There are no charts if a probability is NaN, and no `precision_recall` if no sample has a label.
        """
        if not len(self) or self.rows.isnan().any():
            return {}
        logits, targets = self._logits_and_targets()
        columns = zip(*(part.T for part in self.once(self._ranking)), strict=True)
        probabilities, is_set = logits.sigmoid().flatten(), targets.flatten() > 0.5
        labels = "probability of a label", "share with the label"
        charts: dict[str, Chart] = {"reliability": reliability(probabilities, is_set, *labels)}
        if classes := class_precisions(self.class_names, itertools.starmap(Ranking, columns)):
            charts["precision_recall"] = precision_recall("mAP", RECALLS, classes)
        return charts

    def _logits_and_targets(self) -> tuple[Tensor, Tensor]:
        """Return logits and targets, Float[N K] each."""
        logits, targets = self.rows.view(len(self), 2, len(self.class_names)).unbind(1)
        return logits, targets

    def _losses(self) -> Tensor:
        """Return the loss of each sample, Float[N]."""
        return F.binary_cross_entropy_with_logits(*self._logits_and_targets(), reduction="none").mean(1)

    def _ranking(self) -> Ranking:
        logits, targets = self._logits_and_targets()
        ranking = rank_samples(logits, targets > 0.5)
        return ranking._replace(scores=ranking.scores.double().sigmoid())

    def _best_thresholds(self) -> Tensor:
        """Return the thresholds with the highest F1 scores, Float[K]; 0.5 for a class without positive samples."""
        scores, hits, is_last = self.once(self._ranking)
        # Row i has the F1 scores if the i + 1 samples with the highest scores get the label.
        f1 = 2 * hits / (hits[-1] + torch.arange(1, len(hits) + 1)[:, None])
        best = f1.where(is_last, -1).argmax(0, keepdim=True)
        # The threshold lies between the lowest score of a predicted label and the next score below.
        lowest_score, next_score = (column.gather(0, best)[0] for column in (scores, F.pad(scores[1:], (0, 0, 0, 1))))
        middle = ((lowest_score + next_score) / 2).float()
        # Rounding to float32 may move the middle to `next_score`, or above `lowest_score`.
        just_below = lowest_score.float().nextafter(torch.zeros(()))
        return middle.where((middle > next_score) & (middle <= lowest_score), just_below).where(hits[-1] > 0, 0.5)
