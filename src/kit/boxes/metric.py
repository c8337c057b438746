"""How good detections are: average precision, as COCO defines it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_iou

# COCO's own. torchmetrics rounds them to 32 bits, and a recall of exactly 0.05 then counts as less.
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
RECALLS = np.linspace(0, 1, 101).tolist()
COCO_LIMIT = 100  # the largest number of detections of a class in an image that count
KEYS = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large")
TOGETHER = 50  # images whose own average precisions are computed in one call


class Seen(NamedTuple):
    """An image; its tensors are on the CPU.

    detected: `boxes` Float[N 4] XYXY, `scores` Float[N], `labels` Long[N].
    annotated: `boxes`, `labels` and `iscrowd` Long[N]: what is found within a crowd counts neither way.
    """

    detected: dict[str, Tensor]
    annotated: dict[str, Tensor]


def most_of_a_class(image: Seen) -> int:
    """Return the number of boxes, without crowds, of the class that has the most in an image."""
    labels = image.annotated["labels"][image.annotated["iscrowd"] == 0]
    return int(torch.bincount(labels).max()) if len(labels) else 0


def values_of(result: dict[str, Tensor], class_names: Sequence[str], by_class: bool = False) -> dict[str, float]:
    """`map`, `map_50`, ... of what `coco` returns; by class also `map/NAME` and `map_50/NAME`.

    What has nothing to measure is left out.
    """
    values = {key: float(result[key]) for key in KEYS}
    if by_class and "precision" in result:
        # [IoU, recall, class, area, limit of detections]: all areas and the highest limit.
        precision = result["precision"][:, :, :, 0, -1]
        for place, label in enumerate(result["classes"].reshape(-1).tolist()):
            name = class_names[label - 1]
            values[f"map/{name}"] = _mean(precision[:, :, place])
            values[f"map_50/{name}"] = _mean(precision[0, :, place])
    return {key: value for key, value in values.items() if value >= 0}


def classes_of(images: Sequence[Seen], result: dict[str, Tensor], class_names: Sequence[str]) -> dict[str, Any]:
    """What is seen of each class: `by_class` has `map/NAME`, and `precision_recall`, for each name, two entries.

    curve: Float[3 101], scores, precisions and recalls at an IoU of 0.5; a precision of 0 is where a recall was not
        reached.
    positives: the number of boxes.
    """
    shown: dict[str, Any] = {"by_class": {}, "precision_recall": {}}
    if "precision" not in result:
        return shown
    precision, scores = (result[key][:, :, :, 0, -1] for key in ("precision", "scores"))  # [IoU, recall, class]
    labels = torch.cat([image.annotated["labels"][image.annotated["iscrowd"] == 0] for image in images])
    for place, label in enumerate(result["classes"].reshape(-1).tolist()):
        name, positives = class_names[label - 1], int((labels == label).sum())
        if positives:
            curve = torch.stack([scores[0, :, place], precision[0, :, place], torch.tensor(RECALLS).double()])
            shown["by_class"][f"map/{name}"] = _mean(precision[:, :, place])
            shown["precision_recall"][name] = {"curve": curve, "positives": positives}
    return shown


def wrong(image: Seen, least_score: float) -> float:
    """Of what is annotated or detected in an image, the share that is not both: 0 to 1.

    A detection finds a box of its class at an IoU of 0.5, the surest first; one in a crowd counts neither way.
    """
    sure = (image.detected["scores"] >= least_score).nonzero()[:, 0]
    sure = sure[image.detected["scores"][sure].argsort(descending=True)]
    same = image.detected["labels"][sure, None] == image.annotated["labels"]
    overlaps = box_iou(image.detected["boxes"][sure], image.annotated["boxes"]) * same
    single = image.annotated["iscrowd"] == 0
    left, found, false = overlaps * single, 0, 0
    for row, in_crowd in zip(left, (overlaps * ~single >= 0.5).any(1).tolist(), strict=True):
        best = int(row.argmax()) if len(row) else -1
        if best >= 0 and row[best] >= 0.5:
            found += 1
            left[:, best] = 0
        elif not in_crowd:
            false += 1
    there = int(single.sum()) + false
    return 1 - found / there if there else 0.0


def precision_by_image(images: Sequence[Seen], num_classes: int, limit: int = COCO_LIMIT) -> Tensor:
    """`map` of each image alone, over the classes that it shows, Float[N]; NaN where it shows none.

    Each class of each image becomes a class of its own, so that COCO's own code measures many images at once. For
    `limit` see `coco`.
    """
    values = torch.full((len(images),), float("nan"))
    for start in range(0, len(images), TOGETHER):
        own = [_own_classes(image, place * (num_classes + 1)) for place, image in enumerate(images[start:][:TOGETHER])]
        result = coco(own, limit)
        if "precision" not in result:
            continue
        of_image = result["classes"].reshape(-1) // (num_classes + 1)
        means = torch.tensor([_mean(precision) for precision in result["precision"][:, :, :, 0, -1].unbind(2)])
        for place in of_image.unique().tolist():
            known = means[(of_image == place) & (means >= 0)]
            if len(known):
                values[start + place] = known.mean()
    return values


def _own_classes(image: Seen, first: int) -> Seen:
    """With classes counted from `first`; what is detected of classes that the image does not show is left out."""
    shown = torch.isin(image.detected["labels"], image.annotated["labels"])
    detected = {key: value[shown] for key, value in image.detected.items()}
    return Seen(*({**d, "labels": d["labels"] + first} for d in (detected, image.annotated)))


def coco(images: Sequence[Seen], limit: int) -> dict[str, Tensor]:
    """Return what torchmetrics' `MeanAveragePrecision` does, with its extended summary.

    Args:
        limit: the largest number of detections of a class in an image that count; those with the highest scores do.
    """
    metric = MeanAveragePrecision(
        backend="faster_coco_eval",
        iou_thresholds=IOU_THRESHOLDS,
        rec_thresholds=RECALLS,
        max_detection_thresholds=[1, 10, limit],
        extended_summary=True,
        sync_on_compute=False,
    )
    metric.warn_on_many_detections = False
    metric.update([image.detected for image in images], [image.annotated for image in images])
    return metric.compute()


def _mean(precision: Tensor) -> float:
    """-1 where there is nothing to measure, as in COCO's own summary."""
    known = precision[precision >= 0]
    return float(known.mean()) if len(known) else -1.0
