"""Define the annotated boxes of a data set in any format (`Reading`, `Annotation`), and the targets for training."""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from kit.ground.faults import Fault, fault

Corners = tuple[float, float, float, float]  # XYXY
Size = tuple[int, int]  # height and width in pixels
BoxRow = tuple[Sequence[float], int, bool]  # the corners of a box, its label, and whether it is a crowd


class PackedTargets(Sequence[dict[str, Any]]):
    """The targets of N images, see `kit.boxes.targets`. Three tensors for each image would take ten times the memory.

    The worker processes share the memory of these targets, since they only read it.

    Args:
        boxes: Float[M 4], all boxes in the order of their images, XYXY in pixels of the upright image.
        labels: Long[M], from 1 to K.
        crowd: Bool[M], whether each box is a region of many objects.
        counts: Long[N], the number of boxes of each image.
        sizes: Long[N 2], the height and width of each image.
    """

    def __init__(self, boxes: Tensor, labels: Tensor, crowd: Tensor, counts: Tensor, sizes: Tensor) -> None:
        self.boxes, self.labels, self.crowd, self.counts, self.sizes = boxes, labels, crowd, counts, sizes
        self.ends = counts.cumsum(0)

    @classmethod
    def of(cls, images: Iterable[tuple[Iterable[BoxRow], Size]]) -> Self:
        """Pack the boxes (`BoxRow`) and the size of each image."""
        boxes, labels, crowd, ends, sizes = array("f"), array("q"), array("b"), array("q", [0]), array("q")
        for rows, size in images:
            for corners, label, is_crowd in rows:
                boxes.extend(corners)
                labels.append(label)
                crowd.append(is_crowd)
            ends.append(len(labels))
            sizes.extend(size)
        columns = [torch.from_numpy(np.array(values)) for values in (boxes, labels, crowd, ends, sizes)]
        return cls(columns[0].view(-1, 4), columns[1], columns[2].bool(), columns[3].diff(), columns[4].view(-1, 2))

    @classmethod
    def pack(cls, targets: Sequence[dict[str, Any]]) -> "PackedTargets":
        """Pack targets that may be packed already."""
        if isinstance(targets, PackedTargets):
            return targets
        rows = (zip(*(target[key].tolist() for key in ("boxes", "labels", "crowd")), strict=True) for target in targets)
        return cls.of(zip(rows, (target["size"] for target in targets), strict=True))

    @property
    def images(self) -> Tensor:
        """The index of each box's image, Long[M]."""
        return torch.arange(len(self)).repeat_interleave(self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int | Tensor | slice) -> Any:
        """Return the target of an image, or the packed targets of several images."""
        if isinstance(index, (Tensor, slice)):
            counts = self.counts[index]
            distances = self.ends[index] - counts.cumsum(0)  # how far the rows of each image move to the front
            rows = torch.arange(int(counts.sum())) + distances.repeat_interleave(counts)
            return PackedTargets(self.boxes[rows], self.labels[rows], self.crowd[rows], counts, self.sizes[index])
        end, count = int(self.ends[index]), int(self.counts[index])
        # Copy the parts, since sending a part of a tensor to another process would send the whole tensor.
        tensors = {name: vars(self)[name][end - count : end].clone() for name in ("boxes", "labels", "crowd")}
        return {**tensors, "size": tuple(self.sizes[index].tolist())}


TOLERANCE = 1.0  # a box may lie outside its image by this many pixels: some programs round, or count from 1


class Box(NamedTuple):
    """A box as it is annotated.

    corners: XYXY, in the annotation's unit (see `Annotation.relative`).
    name: the name of the box's class.
    crowd: whether the box is a region of many objects.
    line: the box's line in the text or XML file, from 1, if it is known.
    """

    corners: Corners
    name: str
    crowd: bool = False
    line: int | None = None


@dataclass(slots=True)
class Annotation:
    """The boxes of one image, as they are annotated.

    image: the image file.
    file: the file to name in faults: the image's text or XML file, or the image if its annotations are in JSON.
    size: the annotated height and width, or None.
    relative: True for boxes in shares of the image's width and height, False for boxes in pixels.
    faults: the faults of these boxes.
    """

    image: Path
    file: Path
    size: Size | None = None
    relative: bool = False
    boxes: list[Box] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def report(self, kind: str, message: str, line: int | None = None, **more: Any) -> None:
        """Add a fault. `more` are further fields of a `Fault`."""
        self.faults.append(fault(kind, self.file, message, line)._replace(image=str(self.image), **more))


class Reading(NamedTuple):
    """The annotations of a split.

    class_names: the class names that the user gives or a file lists. In Pascal VOC's format, the classes of the boxes.
    faults: the faults that do not belong to a single annotation.
    """

    annotations: list[Annotation]
    class_names: list[str]
    faults: list[Fault]


class BoxFormat(Protocol):
    """The interface of a data set with boxes. Each format has a class that implements it.

    sources: maps each split that exists to what `read` needs for it; the type differs by format. Train comes first, if
        it exists.
    """

    sources: Mapping[str, Any]

    def read(self, split: str) -> Reading:
        """Read the annotations of a split.

        Raises:
            UserError: the files cannot be read. The message begins with the path of a file.
        """

    def faults(self, readings: Iterable[Reading]) -> Iterable[Fault]:
        """Yield the faults that belong to no split. readings: the annotations of all splits that can be read."""
        return ()


def no_image(file: Path, name: str) -> Fault:
    return fault("image-missing", file, f"there is no image {name}; add it, or remove its boxes")


def no_annotation(image: Path, consequence: str) -> Fault:
    return fault("annotation-missing", image, f"nothing is annotated; {consequence}")
