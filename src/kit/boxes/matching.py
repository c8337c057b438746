"""Match detections with annotated boxes, for metrics, charts and pictures."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

MIN_IOU = 0.5  # the smallest IoU of a detection and the annotated box that it matches
MAX_PAIRS = 1 << 20  # the approximate number of pairs of boxes whose IoU is computed at a time
UNMATCHED, IN_CROWD = -1, -2
Boxes = Mapping[str, Tensor]  # boxes and their labels, scores or flags, by key


class Matches(NamedTuple):
    """The detections of several images in the order of their scores, highest first, and the boxes that they match.

    scores: Float[N].
    labels: Long[N].
    images: Long[N], the index of each detection's image.
    boxes: Long[N], the index of the annotated box among all images' boxes; `UNMATCHED` for a false detection, and
        `IN_CROWD` for an unmatched detection inside a crowd, which the metrics ignore.
    """

    scores: Tensor
    labels: Tensor
    images: Tensor
    boxes: Tensor

    def select(self, index: Any) -> "Matches":
        """Return the detections that an index, such as a mask, selects."""
        return Matches(*(part[index] for part in self))


def match_boxes(
    detected: Sequence[Boxes], annotated: Sequence[Boxes], any_class: bool = False, min_score: float = 0.0
) -> Matches:
    """Match detections with annotated boxes of the same image.

    In the order of the scores, each detection matches the box with the highest IoU that has no match yet. The IoU must
    be at least 0.5. Leaving out detections with low scores does not change the other matches. So one call gives the
    matches for every score threshold.

    Args:
        detected: `boxes` Float[N 4] XYXY, `scores` Float[N] and `labels` Long[N] of each image.
        annotated: `boxes` Float[M 4] XYXY, `labels` Long[M] and `iscrowd` Long[M] of each image.
        any_class: whether detections also match boxes of other classes.
        min_score: detections with lower scores are left out.
    """
    detections = _join(detected, ("boxes", "scores", "labels"))
    annotations = _join(annotated, ("boxes", "labels", "iscrowd"))
    detections = {key: value[detections["scores"] >= min_score] for key, value in detections.items()}
    detection_indices, box_indices, overlaps = _close_pairs(detections, annotations, any_class)
    scores, is_crowd = detections["scores"], annotations["iscrowd"].tolist()
    # The last key is the first to sort by.
    order = np.lexsort((-overlaps.numpy(), detection_indices.numpy(), -scores[detection_indices].numpy()))
    matches, is_free = [UNMATCHED] * len(scores), [True] * len(is_crowd)
    for index, box in zip(detection_indices[order].tolist(), box_indices[order].tolist(), strict=True):
        if matches[index] < 0 and is_crowd[box]:
            matches[index] = IN_CROWD
        elif matches[index] < 0 and is_free[box]:
            matches[index], is_free[box] = box, False
    result = Matches(scores, detections["labels"], detections["images"], torch.tensor(matches, dtype=torch.long))
    return result.select(scores.argsort(descending=True, stable=True))


def _join(images: Sequence[Boxes], keys: Sequence[str]) -> dict[str, Tensor]:
    """Return the boxes of all images in one dict, with the index of each box's image as `images`, Long[N]."""
    empty = {"boxes": torch.empty(0, 4), "scores": torch.empty(0)}
    no_integers = torch.empty(0, dtype=torch.long)
    joined = {key: torch.cat([empty.get(key, no_integers), *(image[key] for image in images)]) for key in keys}
    counts = torch.tensor([len(image["labels"]) for image in images], dtype=torch.long)
    return {**joined, "images": torch.arange(len(images)).repeat_interleave(counts)}


def _close_pairs(detected: Boxes, annotated: Boxes, any_class: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the P pairs with an IoU of at least 0.5: indices of detections and of boxes, Long[P], and the IoUs."""
    groups, annotated_groups = detected["images"], annotated["images"]
    if not any_class:  # a group has the boxes of one class in one image
        num_labels = 1 + int(torch.cat([torch.zeros(1), detected["labels"], annotated["labels"]]).max())
        groups, annotated_groups = (boxes["images"] * num_labels + boxes["labels"] for boxes in (detected, annotated))
    by_group = annotated_groups.argsort(stable=True)  # the boxes of detection i's group: by_group[first[i] : end[i]]
    first, end = (torch.searchsorted(annotated_groups[by_group], groups, right=right) for right in (False, True))
    parts = []
    # Split the detections into chunks that have about `MAX_PAIRS` pairs each, to save memory.
    chunk_sizes = ((end - first).cumsum(0) // MAX_PAIRS).bincount().tolist()
    for rows in torch.arange(len(groups)).split(chunk_sizes):
        counts = (end - first)[rows]
        i = rows.repeat_interleave(counts)
        offsets = torch.arange(len(i)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
        k = by_group[first[i] + offsets]
        overlaps = _overlap(detected["boxes"][i], annotated["boxes"][k], annotated["iscrowd"][k] == 1)
        is_close = overlaps >= MIN_IOU
        parts.append((i[is_close], k[is_close], overlaps[is_close]))
    empty = torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long), torch.empty(0)
    detection_indices, box_indices, overlaps = (torch.cat(column) for column in zip(empty, *parts, strict=True))
    return detection_indices, box_indices, overlaps


def _overlap(boxes: Tensor, others: Tensor, is_crowd: Tensor) -> Tensor:
    """Return the IoU of each pair of boxes or, if the second is a crowd, the share of the first that lies in it."""
    sides = (torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])).clamp(min=0)
    area, other_area = ((part[:, 2] - part[:, 0]) * (part[:, 3] - part[:, 1]) for part in (boxes, others))
    common = sides[:, 0] * sides[:, 1]
    return common / (area + (other_area - common).where(~is_crowd, 0)).clamp(min=1e-9)
