"""The targets of all images of a split in a few tensors."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

Corners = tuple[float, float, float, float]  # XYXY
Size = tuple[int, int]
Row = tuple[Sequence[float], int, bool]  # the corners of a box, its label, and whether it is a crowd


class PackedTargets(Sequence[dict[str, Any]]):
    """The targets of N images, see `kit.boxes.targets`. Three tensors for each image would take ten times the memory.

    The processes that load images share this memory, since they only read it.

    Args:
        boxes: Float[M 4], the boxes of the first image, of the second image, and so on.
        labels: Long[M].
        crowd: Bool[M].
        counts: Long[N], the number of boxes of each image.
        sizes: Long[N 2], the height and width of each image.
    """

    def __init__(self, boxes: Tensor, labels: Tensor, crowd: Tensor, counts: Tensor, sizes: Tensor) -> None:
        self.boxes, self.labels, self.crowd, self.counts, self.sizes = boxes, labels, crowd, counts, sizes
        self.ends = counts.cumsum(0)

    @classmethod
    def of(cls, images: Iterable[tuple[Iterable[Row], Size]]) -> Self:
        """Pack the rows and the size of each image."""
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
        """The image of each box, Long[M]."""
        return torch.arange(len(self)).repeat_interleave(self.counts)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int | Tensor | slice) -> Any:
        """Return the target of an image, or the packed targets of several images."""
        if isinstance(index, (Tensor, slice)):
            counts = self.counts[index]
            distances = self.ends[index] - counts.cumsum(0)  # by which the rows of each image move to the front
            rows = torch.arange(int(counts.sum())) + distances.repeat_interleave(counts)
            return PackedTargets(self.boxes[rows], self.labels[rows], self.crowd[rows], counts, self.sizes[index])
        end, count = int(self.ends[index]), int(self.counts[index])
        # Copies, since a process that sends a part of a tensor to another one would send all of it.
        tensors = {name: vars(self)[name][end - count : end].clone() for name in ("boxes", "labels", "crowd")}
        return {**tensors, "size": tuple(self.sizes[index].tolist())}
