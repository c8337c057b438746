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
from kit.data.decode import PADDING
from kit.ground.ranges import PositivePair, Share

Flip = Literal["horizontal", "vertical", "both"]
FLIPPED_AXES: dict[Flip, tuple[int, ...]] = {"horizontal": (3,), "vertical": (2,), "both": (2, 3)}
SAME_OBJECT = 0.7  # two detections of the same class with a higher IoU show the same object


class Zoom(v2.Transform):
    """Zoom in or out by a random factor at a random position. The image keeps its size.

    `ScaleJitter` and `RandomZoomOut` of torchvision change the size of the image, and no transform of torchvision
    checks how much of a box is left. `Zoom` clips boxes to the image, and drops a box if too little is left.

    Args:
        scale: the smallest and the largest factor. The logarithm of the factor is uniform, so 1/2 is as likely as 2.
        min_visible: the share of a box's area that must be left after clipping, 0 to 1.
        fill: the grey value around an image after zooming out, 0 to 255.
    """

    def __init__(self, scale: PositivePair = (0.8, 1.25), min_visible: Share = 0.4, fill: int = PADDING) -> None:
        super().__init__()
        self.scale, self.min_visible, self.fill = tuple(scale), min_visible, fill

    def forward(self, image: tv_tensors.Image, target: dict[str, Any]) -> tuple[tv_tensors.Image, dict[str, Any]]:
        """Return the changed image, uint8 [C H W], and the changed target. See `kit.boxes.targets.sample`."""
        height, width = image.shape[-2:]
        low, high = (math.log(factor) for factor in self.scale)
        uniform, across, down = torch.rand(3).tolist()
        factor = math.exp(low + uniform * (high - low))
        # The height and width of the area that is enlarged to the image's size, or that the shrunk image fills.
        area = [max(1, round(side / factor if factor > 1 else side * factor)) for side in (height, width)]
        top, left = round(down * (height - area[0])), round(across * (width - area[1]))
        if factor > 1:  # enlarge the area to the image's size
            pixels = F.resized_crop(image, top, left, *area, size=[height, width], antialias=True)
            factors, shift = (width / area[1], height / area[0]), (-left * width / area[1], -top * height / area[0])
        else:  # shrink the image to the area's size
            shrunk = F.resize(image, area, antialias=True)
            pixels = F.pad(shrunk, [left, top, width - area[1] - left, height - area[0] - top], fill=self.fill)
            factors, shift = (area[1] / width, area[0] / height), (left, top)
        boxes = target["boxes"].as_subclass(Tensor)
        moved = boxes * boxes.new_tensor(factors * 2) + boxes.new_tensor(shift * 2)
        clipped = clip_boxes_to_image(moved, (height, width))
        visible = box_area(clipped) >= self.min_visible * box_area(moved)
        wrapped = tv_tensors.BoundingBoxes(clipped[visible], format="XYXY", canvas_size=(height, width))
        return tv_tensors.wrap(pixels, like=image), {**select_boxes(target, visible), "boxes": wrapped}


def predict_with_flips(
    net: Callable[[Tensor], list[dict[str, Tensor]]], images: Tensor, flips: Sequence[Flip], max_detections: int
) -> list[dict[str, Tensor]]:
    """Detect objects in images and in their mirror images, and merge the detections (test-time augmentation).

    A net places boxes on a grid, and the grid falls on other pixels in a mirror image. The mean of the boxes is closer
    to the true edges, especially of small objects.

    Args:
        net: returns the detections of each image: `boxes` Float[N 4] XYXY in pixels, `scores` Float[N] and `labels`
            Long[N].
        images: Float[B C H W].
        flips: the directions of the mirror images.
        max_detections: the largest number of detections for each image. The ones with the highest scores are kept.

    Returns:
        the merged detections of each image, in pixels of the original images.
    """
    views = [net(images)]
    for flip in flips:
        mirrored = net(images.flip(FLIPPED_AXES[flip]))
        views.append([_flip_boxes(detected, flip, images.shape[-2:]) for detected in mirrored])
    return [_merge(views_of_image, max_detections) for views_of_image in zip(*views, strict=True)]


def _flip_boxes(detected: dict[str, Tensor], flip: Flip, size: Sequence[int]) -> dict[str, Tensor]:
    boxes, (height, width) = detected["boxes"], size
    is_flipped = boxes.new_tensor([flip != "vertical", flip != "horizontal"] * 2).bool()  # x and y, twice
    mirrored = boxes.new_tensor([width, height] * 2) - boxes[:, [2, 3, 0, 1]]
    return {**detected, "boxes": torch.where(is_flipped, mirrored, boxes)}


def _merge(views: Sequence[dict[str, Tensor]], max_detections: int) -> dict[str, Tensor]:
    """Merge the detections of an object in different views of an image, by box voting (Gidaris and Komodakis 2015).

    An object gets the highest of the scores, and the mean of the boxes, weighted by their scores.
    """
    boxes, scores, labels = (torch.cat([detected[key] for detected in views]) for key in ("boxes", "scores", "labels"))
    best = batched_nms(boxes, scores, labels, SAME_OBJECT)[:max_detections]  # sorted by score
    same = (box_iou(boxes[best], boxes) > SAME_OBJECT) & (labels[best, None] == labels)
    votes = same * scores
    return {"boxes": votes @ boxes / votes.sum(1, keepdim=True), "scores": scores[best], "labels": labels[best]}
