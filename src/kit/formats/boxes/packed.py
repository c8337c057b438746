"""The targets of all images of a split in a few tensors."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, Self, overload

import numpy as np
import torch
from torch import Tensor

Corners = tuple[float, float, float, float]  # XYXY
Size = tuple[int, int]
Row = tuple[Corners, int, bool]  # a box, its label, and whether it is a crowd


class PackedTargets(Sequence[dict[str, Any]]):
    """The targets of N images, see `kit.boxes.targets`. Three tensors for each image would take ten times the memory.

    The processes that load images share this memory, since they only read it.

    Args:
        boxes: Float[M 4], the boxes of all images.
        labels: Long[M].
        crowd: Bool[M].
        rows: Long[N 2], the first row of each image, and the row after its last one.
        sizes: Long[N 2], the height and width of each image.
    """

    def __init__(self, boxes: Tensor, labels: Tensor, crowd: Tensor, rows: Tensor, sizes: Tensor) -> None:
        self.boxes, self.labels, self.crowd, self.rows, self.sizes = boxes, labels, crowd, rows, sizes

    @classmethod
    def of(cls, images: Iterable[tuple[Sequence[Row], Size]]) -> Self:
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
        return cls(
            columns[0].view(-1, 4),
            columns[1],
            columns[2].bool(),
            torch.stack([columns[3][:-1], columns[3][1:]], 1),
            columns[4].view(-1, 2),
        )

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...

    @overload
    def __getitem__(self, index: Tensor | slice) -> Self: ...

    def __getitem__(self, index: int | Tensor | slice) -> dict[str, Any] | Self:
        """Return the target of an image, or the targets of several images, which share the memory of the boxes."""
        if not isinstance(index, int):
            return type(self)(self.boxes, self.labels, self.crowd, self.rows[index], self.sizes[index])
        first, end = self.rows[index].tolist()
        # Copies, since a process that sends a part of a tensor to another one would send all of it.
        tensors = {name: vars(self)[name][first:end].clone() for name in ("boxes", "labels", "crowd")}
        return {**tensors, "size": tuple(self.sizes[index].tolist())}
