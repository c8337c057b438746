"""Test-time augmentation: what is found in images and in their mirror images, merged."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou
from torchvision.transforms.v2 import functional as F
from torchvision.tv_tensors import BoundingBoxFormat

Flip = Literal["horizontal", "vertical", "both"]
SAME = 0.7  # detections of a class that overlap more (IoU) are of one object


def in_flips(
    net: Callable[[Tensor], list[dict[str, Tensor]]], images: Tensor, flips: Sequence[Flip], most: int
) -> list[dict[str, Tensor]]:
    """The net's detections in Float[B C H W] and in its mirror images, in pixels of the images as they are.

    A net places boxes by a grid, and that grid falls differently on a mirror image: the mean is nearer to the edges,
    most of all to those of small objects.

    Args:
        most: the largest number of detections of an image; those with the highest scores are kept.
    """
    views = [net(images)]
    for flip in flips:
        views.append([_flipped(found, flip, tuple(images.shape[-2:])) for found in net(_flip(images, flip))])
    return [_merged(found, most) for found in zip(*views, strict=True)]


def _flip(images: Tensor, flip: Flip) -> Tensor:
    return images.flip({"horizontal": (3,), "vertical": (2,), "both": (2, 3)}[flip])


def _flipped(found: dict[str, Tensor], flip: Flip, size: tuple[int, int]) -> dict[str, Tensor]:
    boxes = found["boxes"]
    if flip in ("horizontal", "both"):
        boxes = F.horizontal_flip_bounding_boxes(boxes, BoundingBoxFormat.XYXY, size)
    if flip in ("vertical", "both"):
        boxes = F.vertical_flip_bounding_boxes(boxes, BoundingBoxFormat.XYXY, size)
    return {**found, "boxes": boxes}


def _merged(views: Sequence[dict[str, Tensor]], most: int) -> dict[str, Tensor]:
    """Of each object the best score, and the mean of its boxes by score (box voting, Gidaris and Komodakis 2015)."""
    boxes, scores, labels = (torch.cat([found[key] for found in views]) for key in ("boxes", "scores", "labels"))
    best = batched_nms(boxes, scores, labels, SAME)[:most]  # sorted by score
    same = (box_iou(boxes[best], boxes) > SAME) & (labels[best, None] == labels)
    votes = same * scores
    return {"boxes": votes @ boxes / votes.sum(1, keepdim=True), "scores": scores[best], "labels": labels[best]}
