"""The metrics of detection: average precision, as COCO defines it."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torch.nn import functional as F
from torchmetrics.detection import MeanAveragePrecision

from kit.boxes.matching import IN_CROWD, Matches, match_boxes
from kit.charts import Bars, Chart, Curves, Matrix, precision_recall
from kit.evaluation import Evaluation

# COCO's thresholds. torchmetrics rounds its own to 32 bits, and then a recall of exactly 0.05 is below the threshold.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
MAX_DETECTIONS = 100  # for each class and image, only this number of detections count, as in COCO
METRICS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
DEFAULT_THRESHOLD = 0.5  # the threshold of scores as long as no better one is known
THRESHOLDS = torch.linspace(0, 1, 201)  # the thresholds in the chart of precision, recall and F1
CHUNK = 50  # `precision_by_image` computes the average precisions of this number of images in one call


class ImageBoxes(NamedTuple):
    """The boxes of an image, on the CPU.

    detected: `boxes` Float[N 4] XYXY, `scores` Float[N], `labels` Long[N].
    annotated: `boxes` Float[M 4] XYXY, `labels` Long[M] and `iscrowd` Long[M], which is 1 for a crowd, else 0. A
        detection inside a crowd is ignored if it has the crowd's class and matches no other box.
    """

    detected: dict[str, Tensor]
    annotated: dict[str, Tensor]

    @property
    def labels(self) -> Tensor:
        """The labels of the annotated boxes, without crowds."""
        return self.annotated["labels"][self.annotated["iscrowd"] == 0]


class BoxEvaluation(Evaluation):
    """Average precision (`map`, `map_50`, ...) as COCO defines it, in pixels of the original images.

    `outputs` has a dict for each image, as `Detector.predict` returns it. `targets` are the targets of a batch, see
    `kit.boxes.targets`.

    Args:
        class_names: the names of the labels 1 to K.
        max_detections: for each class and image, only this number of detections count: the highest scores.
        threshold: detections with a lower score, 0 to 1, are not drawn, and do not count as errors. By default, it is
            the threshold with the highest F1 score of all classes in these samples. The metrics do not depend on it.
    """

    score_name = "map"
    why_unmeasured = "none of the evaluated validation images has a box"

    def __init__(
        self, class_names: Sequence[str], max_detections: int = MAX_DETECTIONS, threshold: float | None = None
    ) -> None:
        super().__init__(class_names)
        self.max_detections, self._given_threshold = max_detections, threshold

    def entries(self, outputs: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> list[ImageBoxes]:
        entries = []
        for detected, target in zip(outputs, targets, strict=True):
            boxes, crowd = target["original_boxes"], target["crowd"].long()
            annotated = {"boxes": boxes, "labels": target["labels"], "iscrowd": crowd}
            entries.append(ImageBoxes(dict(detected), {key: value.cpu() for key, value in annotated.items()}))
        return entries

    def compute(self, by_class: bool = False) -> dict[str, float]:
        max_boxes = max((int(image.labels.bincount().max()) for image in self.rows if len(image.labels)), default=0)
        if max_boxes > self.max_detections:
            limit = f"{MAX_DETECTIONS}, or the most boxes in a training image"
            why = f"at most {self.max_detections} detections of a class count in an image (the limit is {limit})"
            rank_zero_warn(f"map cannot reach 1: an image has {max_boxes} boxes of one class, but {why}")
        return compute_metrics(self.once(self._summary), self.class_names, by_class)

    def score_terms(self) -> Tensor:
        """Return the average precision of each image as numerator and 1 as denominator, Float[N 2 1].

        Both are 0 for an image without boxes. `margin_of_error` draws resamples of them. Their mean is not exactly
        `map`, but computing `map` for each resample would take minutes.
        """
        values = self.once(self._precision_by_image)
        return torch.stack([values.nan_to_num(), values.isfinite().float()], 1)[..., None]

    def class_counts(self) -> tuple[str, Tensor]:
        """Return what is counted, `boxes`, and the number of annotated boxes of each class, Long[K]."""
        labels = torch.cat([torch.empty(0, dtype=torch.long), *(image.labels for image in self.rows)])
        return "boxes", torch.bincount(labels, minlength=len(self.class_names) + 1)[1:]

    @property
    def threshold(self) -> float:
        """Detections with a lower score, 0 to 1, are not drawn, and do not count as errors."""
        return self.once(self._best_threshold) if self._given_threshold is None else self._given_threshold

    def badness(self) -> tuple[str, Tensor]:
        """Return the name `wrong`, and the share of errors among the objects of each image, from 0 to 1.

        The objects are the annotated and the detected ones.

        Detections below the threshold do not count. Errors are annotated boxes without a match, and detections without
        a match. An annotated box and its match count as one object.
        """
        matches, count = self.once(self._matches), len(self)
        matches = matches.select(matches.scores >= self.threshold)
        num_right = matches.images[matches.boxes >= 0].bincount(minlength=count)
        objects = matches.images.bincount(minlength=count) + self._num_annotated() - num_right
        return "wrong", 1 - (num_right / objects).nan_to_num(1)  # an image without objects has no errors

    def charts(self) -> dict[str, Chart]:
        if not self._num_annotated().any():
            return {}
        values = compute_metrics(self.once(self._summary), self.class_names, by_class=True)
        title = f"Confusion matrix at a confidence of at least {self.threshold:.2f}"
        charts = {
            "precision_recall": self._precision_recall(values),
            "confidence": self._confidence(),
            "confusion": Matrix(title, self._confusion(), [*self.class_names, "background"], "boxes"),
        }
        by_class = {name: values[f"map/{name}"] for name in self.class_names if f"map/{name}" in values}
        if len(by_class) > 1:
            worst_first = dict(sorted(by_class.items(), key=lambda item: item[1]))
            title = f"Average precision, mAP {values['map']:.3f}"
            charts["average_precision"] = Bars(title, "average precision, IoU 0.50 to 0.95", worst_first)
        return charts

    def _precision_recall(self, values: Mapping[str, float]) -> Curves:
        """Return the precision-recall curves of classes. The precision is 0 at a recall that is not reached."""
        classes = {}
        for label, precision, _ in _by_class(self.once(self._summary)):
            if (key := f"map_50/{(name := self.class_names[label - 1])}") in values:
                classes[name] = (values[key], precision[0])
        return precision_recall("mAP50", torch.tensor(RECALLS), classes)

    def _confidence(self) -> Curves:
        """Return curves of precision, recall and F1 of all classes. x is the lowest score of detections that count."""
        precision, recall, f1 = ((THRESHOLDS, values) for values in self._rates(THRESHOLDS))
        best = float(self._rates(torch.tensor([self.threshold]))[2])
        point = self.threshold, best, f"F1 {best:.2f} at {self.threshold:.2f}"
        curves = {"precision": precision, "recall": recall, "F1": f1}
        title = "Precision, recall and F1 of all classes"
        return Curves(title, "confidence", "", curves, "F1", (0, 1), (0, 1.02), point=point)

    def _confusion(self) -> Tensor:
        """Return the confusion matrix of detections from the threshold, Long[K+1 K+1]. The background is last."""
        annotated, background = [image.annotated for image in self.rows], len(self.class_names)
        labels, iscrowd = (torch.cat([image[key] for image in annotated]) for key in ("labels", "iscrowd"))
        detected = [image.detected for image in self.rows]
        matches = match_boxes(detected, annotated, any_class=True, min_score=self.threshold)
        matches = matches.select(matches.boxes != IN_CROWD)
        is_missed = iscrowd == 0
        is_missed[matches.boxes[matches.boxes >= 0]] = False
        # The index -1, of a detection without a match, takes the last item, the background.
        class_of_box = F.pad(labels - 1, (0, 1), value=background)
        missed = labels[is_missed] - 1
        rows = torch.cat([class_of_box[matches.boxes], missed])
        columns = F.pad(matches.labels - 1, (0, len(missed)), value=background)
        size = background + 1
        return (rows * size + columns).bincount(minlength=size**2).view(size, size)

    def _rates(self, thresholds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return precision, recall and F1 for each threshold, Float[T] each. Detections below a threshold do not count.

        The precision is NaN if no detection counts.
        """
        matches, annotated = self.once(self._matches), self._num_annotated().sum()
        counts = len(matches.scores) - torch.searchsorted(matches.scores.flip(0), thresholds)
        num_right = F.pad((matches.boxes >= 0).cumsum(0), (1, 0))[counts]
        return num_right / counts, num_right / annotated, 2 * num_right / (counts + annotated)

    def _best_threshold(self) -> float:
        scores = self.once(self._matches).scores
        f1 = self._rates(scores)[2]
        return float(scores[f1.argmax()]) if f1.any() else DEFAULT_THRESHOLD

    def _matches(self) -> Matches:
        """Return all detections and what they match, without those in crowds."""
        matches = match_boxes([image.detected for image in self.rows], [image.annotated for image in self.rows])
        return matches.select(matches.boxes != IN_CROWD)

    def _num_annotated(self) -> Tensor:
        """Return the number of boxes of each image, without crowds, Long[N]."""
        return torch.tensor([len(image.labels) for image in self.rows], dtype=torch.long)

    def _precision_by_image(self) -> Tensor:
        return precision_by_image(self.rows, len(self.class_names), self.max_detections)

    def _summary(self) -> dict[str, Tensor]:
        return coco_summary(self.rows, self.max_detections)


def coco_summary(images: Sequence[ImageBoxes], max_detections: int) -> dict[str, Tensor]:
    """Return the extended summary of torchmetrics' `MeanAveragePrecision`, which also has precisions and scores.

    For each class and image, only the `max_detections` detections with the highest scores count.
    """
    metric = MeanAveragePrecision(
        backend="faster_coco_eval",
        iou_thresholds=IOU_THRESHOLDS,
        rec_thresholds=RECALLS,
        max_detection_thresholds=[1, 10, max_detections],
        extended_summary=True,
        sync_on_compute=False,
    )
    metric.warn_on_many_detections = False
    metric.update([image.detected for image in images], [image.annotated for image in images])
    return metric.compute()


def compute_metrics(summary: dict[str, Tensor], class_names: Sequence[str], by_class: bool = False) -> dict[str, float]:
    """Return `map`, `map_50`, ... of a `coco_summary`, and with `by_class` also `map/NAME` and `map_50/NAME`.

    A metric that cannot be measured, since no box counts for it, is left out.
    """
    values = {key: float(summary[key]) for key in METRICS}
    for label, precision, _ in _by_class(summary) if by_class else ():
        values[f"map/{class_names[label - 1]}"] = _mean(precision)
        values[f"map_50/{class_names[label - 1]}"] = _mean(precision[0])
    return {key: value for key, value in values.items() if value >= 0}


def precision_by_image(images: Sequence[ImageBoxes], num_classes: int, max_detections: int = MAX_DETECTIONS) -> Tensor:
    """Return the `map` of each image over the classes that are annotated in it, Float[N]; NaN if it has no boxes.

    Each image gets labels that no other image has, so that one call measures many images.
    """
    values = torch.full((len(images),), float("nan"))
    for start in range(0, len(images), CHUNK):
        chunk = [_offset_labels(image, i * (num_classes + 1)) for i, image in enumerate(images[start:][:CHUNK])]
        by_class = _by_class(coco_summary(chunk, max_detections))
        indices = torch.tensor([label // (num_classes + 1) for label, _, _ in by_class])  # the image of each label
        means = torch.tensor([_mean(precision) for _, precision, _ in by_class])
        for i in indices.unique().tolist():
            values[start + i] = means[(indices == i) & (means >= 0)].mean()
    return values


def _offset_labels(image: ImageBoxes, offset: int) -> ImageBoxes:
    """Add an offset to the labels, and drop detections whose classes are not annotated in the image."""
    is_annotated = torch.isin(image.detected["labels"], image.annotated["labels"])
    detected = {key: value[is_annotated] for key, value in image.detected.items()}
    return ImageBoxes(*({**d, "labels": d["labels"] + offset} for d in (detected, image.annotated)))


def _by_class(summary: dict[str, Tensor]) -> list[tuple[int, Tensor, Tensor]]:
    """Return each class's label, and its precisions and scores for each IoU and recall, Float[10 101] both."""
    if "precision" not in summary:
        return []
    # [IoU, recall, class, area, limit of detections]: take all areas and the highest limit.
    precision, scores = (summary[key][:, :, :, 0, -1].unbind(2) for key in ("precision", "scores"))
    return list(zip(summary["classes"].reshape(-1).tolist(), precision, scores, strict=True))


def _mean(precision: Tensor) -> float:
    """Return the mean of the precisions, or -1 if there are none. As in COCO, -1 stands for a missing precision."""
    known = precision[precision >= 0]
    return float(known.mean()) if len(known) else -1.0
