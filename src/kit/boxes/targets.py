"""Prepare the targets of images with boxes for augmentation and for a batch, and count them by class.

`samples.targets` has one dict for each image: `boxes` Float[N 4] XYXY in pixels of the upright original image, `labels`
Long[N] from 1 to K, `crowd` Bool[N] and `size`, the height and width of the original image. A crowd is a region of many
objects. It is no training target, so its region counts as background in training. The metrics ignore a detection inside
a crowd of the same class, unless the detection matches another box.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from kit.charts import Chart, Density
from kit.data import ImageDataModule, Samples
from kit.data.decode import fitted_size
from kit.data.loading import stack
from kit.formats.boxes.annotation import PackedTargets
from kit.ground.errors import UserError

BOX_KEYS = ("boxes", "labels", "crowd", "original_boxes")  # the tensors with one row for each box


def sample(pixels: Tensor, target: dict[str, Any]) -> tuple[tv_tensors.Image, dict[str, Tensor]]:
    """Return the image and its target for augmentation.

    Args:
        pixels: uint8 [C H W], into which the original image was fitted.
        target: an item of `samples.targets`.

    Returns:
        the image, and a target with the boxes in two forms: `boxes`, in pixels of the returned image, and
        `original_boxes`, in pixels of the original image.
    """
    canvas, size = tuple(pixels.shape[-2:]), target["size"]
    fitted = fitted_size(size, canvas)
    factor = torch.tensor([fitted[1] / size[1], fitted[0] / size[0]] * 2)
    boxes = tv_tensors.BoundingBoxes(target["boxes"] * factor, format="XYXY", canvas_size=canvas)
    changes = {"boxes": boxes, "size": torch.tensor(size), "original_boxes": target["boxes"]}
    return tv_tensors.Image(pixels), {**target, **changes}


def collate(images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """Return the images of a batch, uint8 [B C H W], and their targets. Boxes that have no area are dropped.

    Raises:
        UserError: a transform changed the sizes of images, or dropped boxes but kept their `crowd` and
            `original_boxes`.
    """
    if len({image.shape for image in images}) > 1:
        instead = "use kit.boxes.Zoom instead of ScaleJitter, RandomZoomOut and crops"
        raise UserError(f"data.augment: a transform gave images of different sizes; {instead}")
    boxes = [target["boxes"].as_subclass(Tensor) for target in targets]
    have_area = [(b[:, 2:] > b[:, :2]).all(1) for b in boxes]
    return stack(images), [select_boxes(*pair) for pair in zip(targets, have_area, strict=True)]


def select_boxes(target: dict[str, Tensor], mask: Tensor) -> dict[str, Tensor]:
    """Return a target with only the boxes for which `mask`, Bool[N], is true. All of `BOX_KEYS` are selected.

    Raises:
        UserError: a transform has dropped rows of `boxes` or `labels`, but not of the other tensors.
    """
    if any(len(target[key]) != len(mask) for key in BOX_KEYS):
        instead = "use kit.boxes.Zoom, which drops these, too, instead of SanitizeBoundingBoxes"
        raise UserError(f"data.augment: a transform dropped boxes, but not `crowd` and `original_boxes`; {instead}")
    return {**target, **{key: target[key].as_subclass(Tensor)[mask] for key in BOX_KEYS}}


def hashable_target(samples: Samples, index: int) -> Hashable:
    """Return the boxes of an image, rounded to pixels, with `labels` and `crowd`, in sorted order.

    See `ImageDataModule.hashable_target`.
    """
    target = samples.targets[index]
    rows = zip(target["labels"].tolist(), target["crowd"].tolist(), target["boxes"].round().tolist(), strict=True)
    return tuple(sorted((label, crowd, *box) for label, crowd, box in rows))


def count_classes(data: ImageDataModule, samples: Samples) -> list[int]:
    """Return the number of boxes of each class, without crowds."""
    targets = PackedTargets.pack(samples.targets)
    return targets.labels[~targets.crowd].bincount(minlength=data.num_classes + 1)[1:].tolist()


def object_shares(targets: PackedTargets) -> Tensor:
    """Return the area of each box as a fraction of its image's area, Float[M], without crowds."""
    areas = (targets.boxes[:, 2:] - targets.boxes[:, :2]).prod(1) / targets.sizes[targets.images].prod(1)
    return areas[~targets.crowd]


def most_objects(data: ImageDataModule) -> int:
    """Return the largest number of boxes in a training image, without crowds; 0 if there are no training images."""
    train = data.split("train")
    targets = PackedTargets.pack(train.targets if train else [])
    return int(targets.images[~targets.crowd].bincount(minlength=1).max())


def box_charts(data: ImageDataModule) -> dict[str, Chart]:
    """Return charts of the sizes and places of the training boxes, without crowds; none if there are no such boxes."""
    train = data.samples.get("train")
    targets = PackedTargets.pack(train.targets if train else [])
    sides = targets.sizes[targets.images].flip(1)  # width and height of each box's image
    boxes = (targets.boxes / sides.repeat(1, 2))[~targets.crowd]
    if not len(boxes):
        return {}
    (widths, heights), (x, y) = (boxes[:, 2:] - boxes[:, :2]).T, (boxes[:, 2:] + boxes[:, :2]).T / 2
    labels = ("width / image width", "height / image height"), ("x / image width", "y / image height")
    limits = (0.0, 1.0)
    return {
        "box_sizes": Density("Sizes of the training boxes", *labels[0], widths, heights, limits, limits),
        "box_places": Density("Centres of the training boxes", *labels[1], x, y, limits, limits, image_axes=True),
    }


def strata(data: ImageDataModule, samples: Samples) -> Tensor:
    """Return the label of each image's rarest class, Long[N], without crowds; 0 for an image without boxes.

    See `count_classes`.
    """
    targets = PackedTargets.pack(samples.targets)
    counts, is_single = [0, *count_classes(data, samples)], ~targets.crowd
    boxes_of_images = targets.images[is_single].bincount(minlength=len(targets))
    labels = targets.labels[is_single].split(boxes_of_images.tolist())
    return torch.tensor([min(row.tolist(), key=counts.__getitem__, default=0) for row in labels], dtype=torch.long)
