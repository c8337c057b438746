"""The metrics of segmentation."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.charts import Chart, Matrix
from kit.evaluation import Evaluation
from kit.formats.masks.masks import IGNORED


class PixelCounts(NamedTuple):
    """The loss of an image, and the M nonzero entries of its confusion matrix.

    loss: Float[], the sum of the cross-entropy over the pixels that are not ignored.
    pairs: Long[M], the index of each entry in the flattened matrix: target class * K + predicted class.
    pixels: Long[M], the value of each entry: the number of pixels of this pair of classes.
    """

    loss: Tensor
    pairs: Tensor
    pixels: Tensor


class MaskEvaluation(Evaluation):
    """Mean intersection over union (`miou`), `pixel_accuracy` and cross-entropy (`loss`) over all pixels of a split.

    Ignored pixels are left out. A class that is neither in the targets nor in the predictions has no IoU and is left
    out of the mean. `outputs` are logits, Float[B K H W], and `targets` class numbers or `IGNORED`, Long[B H W].
    """

    score_name = "miou"

    def entries(self, outputs: Tensor, targets: Tensor) -> list[PixelCounts]:
        num_images, num_classes = outputs.shape[:2]
        losses = F.cross_entropy(outputs, targets, reduction="none", ignore_index=IGNORED).flatten(1).sum(1).float()
        indices = torch.arange(num_images, device=targets.device)[:, None, None].expand_as(targets)  # of the images
        # All images share one table, with a row for each, so that `nonzero`, which waits for the GPU, is called once.
        cells = ((indices * num_classes + targets) * num_classes + outputs.argmax(1))[targets != IGNORED]
        table = torch.bincount(cells, minlength=num_images * num_classes**2).view(num_images, num_classes**2)
        rows, pairs = table.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=num_images).tolist()  # nonzero entries of each image
        images = zip(losses, pairs.split(counts), table[rows, pairs].split(counts), strict=True)
        return [PixelCounts(*image) for image in images]

    def compute(self, by_class: bool = False) -> dict[str, float]:
        confusion = self.once(self._confusion)
        pixels = confusion.sum()  # if it is 0, all metrics are NaN
        values = {
            "loss": float(sum(entry.loss.double() for entry in self.rows) / pixels),
            "miou": float(iou(confusion).nanmean()),
            "pixel_accuracy": float(confusion.diagonal().sum() / pixels),
        }
        named = zip(self.class_names, iou(confusion).tolist(), strict=True) if by_class else ()
        return values | {f"iou/{name}": value for name, value in named if value == value}  # not NaN

    def shares(self) -> Tensor:
        return self.once(self._overlaps).double()

    def class_counts(self) -> tuple[str, Tensor]:
        return "pixels", self.once(self._confusion).sum(1)

    def badness(self) -> tuple[str, Tensor]:
        intersection, union = self.once(self._overlaps).unbind(1)
        return "1 - IoU", 1 - (intersection / union).nanmean(1).nan_to_num(1)  # 0 if all pixels are ignored

    def charts(self) -> dict[str, Chart]:
        return {"confusion": Matrix("Confusion matrix", self.once(self._confusion), self.class_names, "pixels")}

    def _confusion(self) -> Tensor:
        """Return the number of pixels by target and predicted class, Long[K K]."""
        return sum(map(self._matrix_of, self.rows), torch.zeros([len(self.class_names)] * 2, dtype=torch.long))

    def _overlaps(self) -> Tensor:
        """Return the number of pixels in the intersection and the union of each class in each image, Long[N 2 K]."""
        return torch.stack([_overlap(self._matrix_of(entry)) for entry in self.rows])

    def _matrix_of(self, entry: PixelCounts) -> Tensor:
        """Return the confusion matrix of an image, Long[K K]."""
        num_classes = len(self.class_names)
        matrix = torch.zeros(num_classes**2, dtype=torch.long)
        matrix[entry.pairs] = entry.pixels
        return matrix.view(num_classes, num_classes)


def iou(confusion: Tensor) -> Tensor:
    """Return the intersection over union of each class, Float[K]; NaN for a class without pixels.

    Args:
        confusion: Long[K K], with a row for each target class.
    """
    return torch.div(*_overlap(confusion))


def _overlap(confusion: Tensor) -> Tensor:
    """Return the number of pixels in the intersection and the union of each class, Long[2 K]."""
    intersection = confusion.diagonal()
    return torch.stack([intersection, confusion.sum(0) + confusion.sum(1) - intersection])
