"""The metrics of detection: average precision, as COCO defines it."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_iou

from kit.boxes.predictions import MIN_SCORE
from kit.charts import Chart, Curves
from kit.evaluation import Evaluation

# COCO's thresholds. torchmetrics rounds its own to 32 bits, and then a recall of exactly 0.05 is below the threshold.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
MAX_DETECTIONS = 100  # for each class and image, as in COCO
METRICS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
CHUNK = 50  # `precision_by_image` computes the average precisions of this number of images in one call


class ImageBoxes(NamedTuple):
    """The boxes of an image, on the CPU.

    detected: `boxes` Float[N 4] XYXY, `scores` Float[N], `labels` Long[N].
    annotated: `boxes` Float[M 4] XYXY, `labels` Long[M] and `iscrowd` Long[M], which is 1 for a crowd, else 0. A
        detection within a crowd is neither right nor wrong.
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
        max_detections: for each class and image, only this number of detections counts, those with the highest scores.
    """

    score_name = "map"
    unmeasured = "no validation image that was used has a box"

    def __init__(self, class_names: Sequence[str], max_detections: int = MAX_DETECTIONS) -> None:
        super().__init__(class_names)
        self.max_detections = max_detections

    def entries(self, outputs: list[dict[str, Tensor]], targets: list[dict[str, Tensor]]) -> list[ImageBoxes]:
        entries = []
        for detected, target in zip(outputs, targets, strict=True):
            annotated = {"boxes": target["annotated"], "labels": target["labels"], "iscrowd": target["crowd"].long()}
            entries.append(ImageBoxes(dict(detected), {key: value.cpu() for key, value in annotated.items()}))
        return entries

    def compute(self, by_class: bool = False) -> dict[str, float]:
        highest = max((int(image.labels.bincount().max()) for image in self.rows if len(image.labels)), default=0)
        if highest > self.max_detections:
            why = f"only {self.max_detections} detections of a class count, since no training image has more boxes"
            rank_zero_warn(f"map cannot reach 1: an image has {highest} boxes of one class, but {why}")
        return compute_metrics(self.once(self._summary), self.class_names, by_class)

    def shares(self) -> Tensor:
        """Return the average precision of each image as numerator and 1 as denominator, Float[N 2 1].

        Both are 0 for an image without boxes. These are not exactly the contributions to `map`, but resampling `map`
        itself would take minutes.
        """
        values = precision_by_image(self.rows, len(self.class_names), self.max_detections)
        return torch.stack([values.nan_to_num(), values.isfinite().float()], 1)[..., None]

    def class_counts(self) -> tuple[str, Tensor]:
        labels = torch.cat([torch.empty(0, dtype=torch.long), *(image.labels for image in self.rows)])
        return "boxes", torch.bincount(labels, minlength=len(self.class_names) + 1)[1:]

    def badness(self) -> tuple[str, Tensor]:
        return "wrong", torch.tensor([error_share(image, MIN_SCORE) for image in self.rows])

    def charts(self) -> dict[str, Chart]:
        curves = compute_curves(self.rows, self.once(self._summary), self.class_names)
        return {"precision_recall": Curves("Precision and recall at an IoU of 0.5", "recall", "precision", curves)}

    def _summary(self) -> dict[str, Tensor]:
        return coco_summary(self.rows, self.max_detections)


def coco_summary(images: Sequence[ImageBoxes], max_detections: int) -> dict[str, Tensor]:
    """Return the extended summary of torchmetrics' `MeanAveragePrecision`, which also has precisions and scores.

    Args:
        images: the boxes of all images.
        max_detections: for each class and image, only this number of detections counts, those with the highest scores.
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


def compute_curves(
    images: Sequence[ImageBoxes], summary: dict[str, Tensor], class_names: Sequence[str]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return the recalls and precisions at an IoU of 0.5, Float[101] both, of each class that has boxes.

    The precision is 0 at a recall that is not reached.
    """
    counts = Counter(label for image in images for label in image.labels.tolist())
    return {
        class_names[label - 1]: (torch.tensor(RECALLS), precision[0])
        for label, precision, _ in _by_class(summary)
        if counts[label]
    }


def error_share(image: ImageBoxes, min_score: float) -> float:
    """Return the share of errors among the annotated and detected objects of an image, from 0 to 1.

    In order of their scores, detections are matched to unmatched boxes of their class with an IoU of at least 0.5.
    Errors are boxes and detections without a match. A detection in a crowd is not an error.

    Args:
        image: the boxes of the image.
        min_score: detections with lower scores are left out.
    """
    order = image.detected["scores"].argsort(descending=True)
    order = order[image.detected["scores"][order] >= min_score]
    overlaps = box_iou(image.detected["boxes"][order], image.annotated["boxes"])
    overlaps *= image.detected["labels"][order, None] == image.annotated["labels"]
    crowd = image.annotated["iscrowd"] == 1
    in_crowd, unmatched = (overlaps[:, crowd] >= 0.5).any(1).tolist(), overlaps[:, ~crowd]
    matches = false_positives = 0
    for row, ignored in zip(unmatched, in_crowd, strict=True):
        if len(row) and row.max() >= 0.5:
            matches += 1
            unmatched[:, row.argmax()] = 0
        elif not ignored:
            false_positives += 1
    total = unmatched.shape[1] + false_positives
    return 1 - matches / total if total else 0.0


def precision_by_image(images: Sequence[ImageBoxes], num_classes: int, max_detections: int = MAX_DETECTIONS) -> Tensor:
    """Return the `map` of each image over the classes that are annotated in it, Float[N]; NaN if it has no boxes.

    Each image gets labels that no other image has, so that one call measures many images.
    """
    values = torch.full((len(images),), float("nan"))
    for start in range(0, len(images), CHUNK):
        chunk = [_offset_labels(image, i * (num_classes + 1)) for i, image in enumerate(images[start:][:CHUNK])]
        by_class = _by_class(coco_summary(chunk, max_detections))
        indices = torch.tensor([label // (num_classes + 1) for label, _, _ in by_class])  # of the images in the chunk
        means = torch.tensor([_mean(precision) for _, precision, _ in by_class])
        for i in indices.unique().tolist():
            values[start + i] = means[(indices == i) & (means >= 0)].mean()
    return values


def _offset_labels(image: ImageBoxes, offset: int) -> ImageBoxes:
    """Add an offset to the labels, and drop detections whose classes are not annotated in the image."""
    annotated = torch.isin(image.detected["labels"], image.annotated["labels"])
    detected = {key: value[annotated] for key, value in image.detected.items()}
    return ImageBoxes(*({**d, "labels": d["labels"] + offset} for d in (detected, image.annotated)))


def _by_class(summary: dict[str, Tensor]) -> list[tuple[int, Tensor, Tensor]]:
    """Return the label of each class, its precisions and its scores, both Float[10 101] by IoU and recall."""
    if "precision" not in summary:
        return []
    # [IoU, recall, class, area, limit of detections]: take all areas and the highest limit.
    precision, scores = (summary[key][:, :, :, 0, -1].unbind(2) for key in ("precision", "scores"))
    return list(zip(summary["classes"].reshape(-1).tolist(), precision, scores, strict=True))


def _mean(precision: Tensor) -> float:
    """Return the mean of the precisions, or -1 if there are none. As in COCO, -1 stands for a missing precision."""
    known = precision[precision >= 0]
    return float(known.mean()) if len(known) else -1.0
