"""Boxes of an image as a target: as annotated, as augmentation moves them, as a batch of them, and counted.

`samples.targets` holds one dict an image, as annotated: `boxes` Float[N 4] XYXY in pixels of the upright original,
`labels` Long[N] from 1 to K, `crowd` Bool[N] (a region to ignore: not trained on, and neither right nor wrong when
something is found there) and `size`, the original's height and width.
"""

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors

from kit.data import ImageDataModule, Samples
from kit.data.decode import fitted_size
from kit.data.loading import stack
from kit.ground.errors import UserError

OF_BOXES = ("boxes", "labels", "crowd", "annotated")  # one row a box


def sample(pixels: Tensor, target: dict[str, Any]) -> tuple[tv_tensors.Image, dict[str, Tensor]]:
    """What augmentation gets: `boxes` in pixels of the image that was fitted into `pixels`, and them as `annotated`."""
    canvas = tuple(pixels.shape[-2:])
    fitted, size = fitted_size(target["size"], canvas), target["size"]
    factor = torch.tensor([fitted[1] / size[1], fitted[0] / size[0]] * 2)
    return tv_tensors.Image(pixels), {
        "boxes": tv_tensors.BoundingBoxes(target["boxes"] * factor, format="XYXY", canvas_size=canvas),
        "labels": target["labels"],
        "crowd": target["crowd"],
        "size": torch.tensor(size),
        "annotated": target["boxes"],
    }


def collate(images: Sequence[Tensor], targets: Sequence[dict[str, Tensor]]) -> tuple[Tensor, list[dict[str, Tensor]]]:
    """uint8 [B C H W], and a dict an image of plain tensors; boxes that augmentation left no area are dropped.

    Raises:
        UserError: augmentation gave the images different sizes, or dropped boxes and left what belongs to them.
    """
    sizes = {f"{image.shape[-1]}x{image.shape[-2]}" for image in images}
    if len(sizes) > 1:
        raise UserError(
            f"data.augment: a transform gave images of different sizes ({', '.join(sorted(sizes)[:2])}); take those "
            "that keep the size: kit.boxes.Zoom for ScaleJitter, RandomZoomOut and crops; flips, RandomAffine "
            "and transforms of colour do, too"
        )
    return stack(images), [kept(target, _with_area(target["boxes"])) for target in targets]


def kept(target: dict[str, Tensor], keep: Tensor) -> dict[str, Tensor]:
    """The boxes at `keep`, Bool[N], with all that belongs to them."""
    if any(len(target[key]) != len(keep) for key in OF_BOXES):
        raise UserError(
            "data.augment: a transform dropped boxes, but not their `crowd` and `annotated`; kit.boxes.Zoom "
            "drops all, and SanitizeBoundingBoxes is not needed here"
        )
    rows = {key: target[key].as_subclass(Tensor)[keep] for key in OF_BOXES}
    return {**target, **rows}


def _with_area(boxes: Tensor) -> Tensor:
    boxes = boxes.as_subclass(Tensor)
    return (boxes[:, 2:] > boxes[:, :2]).all(1)


def hashable_target(samples: Samples, index: int) -> Hashable:
    """Return the boxes, rounded to pixels, with their labels, sorted: see `ImageDataModule.hashable_target`."""
    target = samples.targets[index]
    rows = zip(target["labels"].tolist(), target["crowd"].tolist(), target["boxes"].round().tolist(), strict=True)
    return tuple(sorted((label, crowd, *box) for label, crowd, box in rows))


def count_classes(data: ImageDataModule, samples: Samples) -> list[int]:
    """The boxes of each class, crowds left out."""
    labels = [target["labels"][~target["crowd"]] for target in samples.targets]
    return torch.bincount(torch.cat([torch.empty(0, dtype=torch.long), *labels]), minlength=data.num_classes + 1)[
        1:
    ].tolist()


def most_objects(data: ImageDataModule) -> int:
    """Return the number of boxes, without crowds, of the training image that has the most."""
    train = data.split("train")
    return max((int((~target["crowd"]).sum()) for target in train.targets), default=0) if train else 0


def strata(data: ImageDataModule, samples: Samples) -> Tensor:
    """Long[N]: for each image the label in it that has the fewest boxes of all; 0 where there is no box."""
    rank = torch.tensor([0, *count_classes(data, samples)])
    found = [target["labels"] for target in samples.targets]
    return torch.tensor([int(labels[rank[labels].argmin()]) if len(labels) else 0 for labels in found])
