"""Augment images with boxes: by `Zoom` in training, and by mirror images in evaluation."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import batched_nms, box_area, box_iou, clip_boxes_to_image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kit.boxes.targets import select_boxes
from kit.data.augment import interpolate_logs, scale_side
from kit.data.decode import PADDING, resize
from kit.ground.ranges import PositivePair, Share

Flip = Literal["horizontal", "vertical", "both"]
FLIPPED_AXES: dict[Flip, tuple[int, ...]] = {"horizontal": (3,), "vertical": (2,), "both": (2, 3)}
SAME_OBJECT = 0.7  # detections of the same class with a higher IoU show the same object


class Zoom(v2.Transform):
    """Zoom in or out by a random factor at a random position, and stretch randomly. The image keeps its size.

    `ScaleJitter` and `RandomZoomOut` of torchvision change the size of the image, and no transform of torchvision
    checks how much of a box is left. `Zoom` clips boxes to the image, and drops a box if too little is left.

    Args:
        scale: the smallest and the largest factor. The logarithm of the factor is uniform, so 1/2 is as likely as 2.
        min_visible: the share of a box's area that must be left after clipping, 0 to 1.
        fill: the grey value around an image after zooming out, 0 to 255.
        ratio: the smallest and the largest factor by which width / height changes. Its logarithm is uniform, too.
    """

    def __init__(
        self,
        scale: PositivePair = (0.8, 1.25),
        min_visible: Share = 0.4,
        fill: int = PADDING,
        ratio: PositivePair = (1.0, 1.0),
    ) -> None:
        super().__init__()
        self.scale, self.min_visible, self.fill, self.ratio = tuple(scale), min_visible, fill, tuple(ratio)

    def forward(self, image: tv_tensors.Image, target: dict[str, Any]) -> tuple[tv_tensors.Image, dict[str, Any]]:
        """Return the changed image, uint8 [C H W], and the changed target. See `kit.boxes.targets.sample`."""
        size = tuple(image.shape[-2:])
        uniform, across, down = torch.rand(3).tolist()
        factor = interpolate_logs(self.scale, uniform)
        stretch = 1.0 if self.ratio == (1, 1) else math.sqrt(interpolate_logs(self.ratio, float(torch.rand(()))))
        rows = scale_side(size[0], size[0], factor / stretch, down)
        columns = scale_side(size[1], size[1], factor * stretch, across)
        window = image.as_subclass(Tensor)[:, rows.start : rows.end, columns.start : columns.end]
        pixels = resize(window, (rows.length, columns.length))
        pixels = F.pad(pixels, [columns.before, rows.before, columns.after, rows.after], fill=self.fill)
        factors = [side.length / (side.end - side.start) for side in (columns, rows)]
        boxes = target["boxes"].as_subclass(Tensor)
        moved = (boxes - boxes.new_tensor([columns.start, rows.start] * 2)) * boxes.new_tensor(factors * 2)
        moved += boxes.new_tensor([columns.before, rows.before] * 2)
        clipped = clip_boxes_to_image(moved, size)
        visible = box_area(clipped) >= self.min_visible * box_area(moved)
        wrapped = tv_tensors.BoundingBoxes(clipped[visible], format="XYXY", canvas_size=size)
        return tv_tensors.wrap(pixels, like=image), {**select_boxes(target, visible), "boxes": wrapped}


def predict_with_flips(
    net: Callable[[Tensor], list[dict[str, Tensor]]],
    images: Tensor,
    flips: Sequence[Flip],
    max_detections: int,
    any_class: bool = False,
) -> list[dict[str, Tensor]]:
    """Detect objects in images and in their mirror images, and merge the detections (test-time augmentation).

    A net places boxes on a grid, and the grid falls on other pixels in a mirror image. The mean of the boxes is closer
    to the true edges, especially of small objects.

    Args:
        net: returns the detections of each image: `boxes` Float[N 4] XYXY in pixels, `scores` Float[N] and `labels`
            Long[N].
        images: Float[B C H W].
        flips: the directions of the mirror images.
        max_detections: the largest number of detections for each image. Those with the highest scores are kept.
        any_class: whether detections of different classes can show the same object.

    Returns:
        the merged detections of each image, in pixels of the original images.
    """
    views = [net(images)]
    for flip in flips:
        detections = net(images.flip(FLIPPED_AXES[flip]))
        views.append([_flip_boxes(detected, flip, images.shape[-2:]) for detected in detections])
    return [_merge(views_of_image, max_detections, any_class) for views_of_image in zip(*views, strict=True)]


def _flip_boxes(detected: dict[str, Tensor], flip: Flip, size: Sequence[int]) -> dict[str, Tensor]:
    boxes, (height, width) = detected["boxes"], size
    is_flipped = boxes.new_tensor([flip != "vertical", flip != "horizontal"] * 2).bool()  # for x1, y1, x2 and y2
    mirrored = boxes.new_tensor([width, height] * 2) - boxes[:, [2, 3, 0, 1]]
    return {**detected, "boxes": torch.where(is_flipped, mirrored, boxes)}


def _merge(views: Sequence[dict[str, Tensor]], max_detections: int, any_class: bool) -> dict[str, Tensor]:
    """Merge the detections of an object in different views of an image, by box voting (Gidaris and Komodakis 2015).

    An object gets the highest of the scores, and the mean of the boxes, weighted by their scores.
    """
    boxes, scores, labels = (torch.cat([detected[key] for detected in views]) for key in ("boxes", "scores", "labels"))
    groups = torch.zeros_like(labels) if any_class else labels
    best = batched_nms(boxes, scores, groups, SAME_OBJECT)[:max_detections]  # sorted by score
    is_same_object = (box_iou(boxes[best], boxes) > SAME_OBJECT) & (labels[best, None] == labels)
    votes = is_same_object * scores
    return {"boxes": votes @ boxes / votes.sum(1, keepdim=True), "scores": scores[best], "labels": labels[best]}
