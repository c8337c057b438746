"""Augment images with boxes: by `Zoom` and `paste_objects` in training, and by mirror images in evaluation."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import batched_nms, box_area, box_iou, clip_boxes_to_image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from kit.boxes.targets import BOX_KEYS, select_boxes
from kit.data.augment import interpolate_logs, scale_side
from kit.data.decode import PADDING, resize
from kit.ground.errors import UserError
from kit.ground.ranges import PositivePair, Share

Flip = Literal["horizontal", "vertical", "both"]
FLIPPED_AXES: dict[Flip, tuple[int, ...]] = {"horizontal": (3,), "vertical": (2,), "both": (2, 3)}
SAME_OBJECT = 0.7  # detections of the same class with a higher IoU show the same object
MAX_HIDDEN = 0.3  # the largest share of an object that a pasted object may hide


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


def paste_objects(
    images: Tensor, targets: Sequence[dict[str, Tensor]], probability: float
) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Paste a random object of another image of the batch into an image, at a random position (Dwibedi et al. 2017).

    The pixels of the object's box are pasted, and its edges are blended with the image. The object keeps its size. It
    is pasted at the first of ten random positions at which it hides at most `MAX_HIDDEN` of each other object. If there
    is none, it is not pasted. Crowds are not pasted.

    Args:
        images: Float[B C H W].
        targets: `boxes`, `labels`, `crowd` and `original_boxes` of each image: see `kit.boxes.targets`.
        probability: the share of images into which an object is pasted, 0 to 1.

    Returns:
        copies of the images and the targets.

    Raises:
        UserError: there is only one image.
    """
    if len(targets) < 2:
        raise UserError(
            "model.paste needs at least two images in a batch: raise data.batch_size, or use --model.paste 0"
        )
    pasted_images, pasted_targets = images.clone(), list(targets)
    for index, target in enumerate(targets):
        source = (index + int(torch.randint(1, len(targets), ()))) % len(targets)
        objects = targets[source]["crowd"].logical_not().nonzero().flatten()
        if float(torch.rand(())) >= probability or not len(objects):
            continue
        chosen = objects[int(torch.randint(len(objects), ()))]
        left, top, right, bottom = targets[source]["boxes"][chosen].round().int().tolist()
        position = _free_position(right - left, bottom - top, images.shape[-2:], target["boxes"])
        if position is None:
            continue
        x, y = position
        pixels = images[source, :, top:bottom, left:right]
        window = pasted_images[index, :, y : y + bottom - top, x : x + right - left]
        opacity = torch.outer(_ramp(bottom - top), _ramp(right - left)).to(window)
        window.copy_(torch.lerp(window, pixels, opacity))
        row = {key: targets[source][key][chosen, None] for key in BOX_KEYS}
        row["boxes"] = row["boxes"].new_tensor([[x, y, x + right - left, y + bottom - top]])
        pasted_targets[index] = {**target, **{key: torch.cat([target[key], row[key]]) for key in BOX_KEYS}}
    return pasted_images, pasted_targets


def _free_position(width: int, height: int, size: Sequence[int], boxes: Tensor) -> tuple[int, int] | None:
    """Return x and y of the upper left corner of a free position, or None. See `paste_objects`.

    Args:
        width, height: the sides of the object, in pixels.
        size: the height and width of the image, in pixels.
        boxes: Float[N 4] XYXY, the other objects.
    """
    if not (0 < width < size[1] and 0 < height < size[0]):
        return None
    corners = (torch.rand(10, 2) * torch.tensor([size[1] - width + 1, size[0] - height + 1])).int().to(boxes)
    candidates = torch.cat([corners, corners + corners.new_tensor([width, height])], 1)
    starts = torch.maximum(candidates[:, None, :2], boxes[:, :2])
    sides = torch.minimum(candidates[:, None, 2:], boxes[:, 2:]) - starts  # of the overlaps
    hidden = sides.clamp(min=0).prod(2) / box_area(boxes)
    free = corners[(hidden <= MAX_HIDDEN).all(1)]
    return tuple(free[0].int().tolist()) if len(free) else None


def _ramp(length: int) -> Tensor:
    """Return the opacity of pasted pixels along a side, Float[length]. It rises over a twelfth of the side to 1."""
    distances = torch.minimum(torch.arange(1, length + 1), torch.arange(length, 0, -1))  # to the edge, in pixels
    return (distances / max(2, length // 12)).clamp(max=1)


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

    An object gets the highest of the scores, and the mean of the boxes, weighted by their scores. Boxes without
    area are dropped.
    """
    boxes, scores, labels = (torch.cat([detected[key] for detected in views]) for key in ("boxes", "scores", "labels"))
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(1)
    boxes, scores, labels = boxes[has_area], scores[has_area], labels[has_area]
    groups = torch.zeros_like(labels) if any_class else labels
    best = batched_nms(boxes, scores, groups, SAME_OBJECT)[:max_detections]  # sorted by score
    is_same_object = (box_iou(boxes[best], boxes) > SAME_OBJECT) & (labels[best, None] == labels)
    tiny = torch.finfo(torch.float).tiny  # the sum of the votes must not be 0
    votes = is_same_object * scores.float().clamp(min=tiny)
    with torch.autocast(boxes.device.type, enabled=False):  # 16 bits would round the coordinates
        means = votes @ boxes.float() / votes.sum(1, keepdim=True)
    return {"boxes": means, "scores": scores[best], "labels": labels[best]}
