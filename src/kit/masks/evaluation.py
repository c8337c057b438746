"""The metrics of segmentation."""

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.charts import Bars, Chart, Matrix
from kit.evaluation import Evaluation
from kit.formats.masks.masks import IGNORED
from kit.masks.predictions import background_class

SIZES = (0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1)  # the limits between the bins of a class's share of an image


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
    out of the mean. All metrics are NaN if the loss is NaN, since predictions from NaN are meaningless. `outputs` are
    logits, Float[B K H W], and `targets` class numbers or `IGNORED`, Long[B H W].
    """

    score_name = "miou"

    def entries(self, outputs: Tensor, targets: Tensor) -> list[PixelCounts]:
        num_images, num_classes = outputs.shape[:2]
        losses = F.cross_entropy(outputs, targets, reduction="none", ignore_index=IGNORED).flatten(1).sum(1).float()
        image_indices = torch.arange(num_images, device=targets.device)[:, None, None].expand_as(targets)
        # All images share one table, with a row for each, so that `nonzero`, which waits for the GPU, is called once.
        cells = ((image_indices * num_classes + targets) * num_classes + outputs.argmax(1))[targets != IGNORED]
        table = torch.bincount(cells, minlength=num_images * num_classes**2).view(num_images, num_classes**2)
        rows, pairs = table.nonzero(as_tuple=True)
        counts = torch.bincount(rows, minlength=num_images).tolist()  # the number of nonzero entries of each image
        images = zip(losses, pairs.split(counts), table[rows, pairs].split(counts), strict=True)
        return [PixelCounts(*image) for image in images]

    def compute(self, by_class: bool = False) -> dict[str, float]:
        intersection, _, annotated = self.once(self._overlaps).sum(0).unbind()
        pixels, ious = annotated.sum(), self._ious()  # if there are no pixels, all metrics are NaN
        values = {
            "loss": float(sum(entry.loss.double() for entry in self.rows) / pixels),
            "miou": float(ious.nanmean()),
            "pixel_accuracy": float(intersection.sum() / pixels),
        }
        pairs = zip(self.class_names, ious.tolist(), strict=True) if by_class else ()
        values |= {f"iou/{name}": value for name, value in pairs if value == value}  # not NaN
        return dict.fromkeys(values, math.nan) if math.isnan(values["loss"]) else values

    def score_terms(self) -> Tensor:
        return self.once(self._overlaps)[:, :2].double()

    def class_counts(self) -> tuple[str, Tensor]:
        return "pixels", self.once(self._confusion).sum(1)

    def badness(self) -> tuple[str, Tensor]:
        intersection, union, _ = self.once(self._overlaps).unbind(1)
        # If all pixels are ignored, the badness is 0.
        return "1 - IoU", 1 - (intersection / union).nanmean(1).nan_to_num(1)

    def charts(self) -> dict[str, Chart]:
        """Return `confusion`, `iou` of each class, and `iou_by_size`."""
        ious = zip(self._ious().tolist(), self.class_names, strict=True)
        worst_first = sorted((value, name) for value, name in ious if value == value)  # not NaN
        by_class = {name: value for value, name in worst_first}
        return {
            "confusion": Matrix("Confusion matrix", self._confusion(), self.class_names, "pixels"),
            "iou": Bars("IoU of each class", "intersection over union of its pixels", by_class),
            "iou_by_size": self._iou_by_size(),
        }

    def _ious(self) -> Tensor:
        """Return the intersection over union of each class, Float[K]; NaN for a class without pixels."""
        return torch.div(*self.once(self._overlaps).sum(0)[:2])

    def _iou_by_size(self) -> Bars:
        """Return the mean IoU of a class in an image, by the size of the class: its share of the annotated pixels.

        Each pair of an image and a class in its annotation counts once, unless the class is the background. Ignored
        pixels are not counted.
        """
        intersection, union, annotated = self.once(self._overlaps).double().unbind(1)
        is_counted = annotated > 0
        if (background := background_class(self.class_names)) is not None:
            is_counted[:, background] = False
        sizes, ious = (annotated / annotated.sum(1, keepdim=True))[is_counted], (intersection / union)[is_counted]
        values, texts = {}, {}
        for lowest, highest in itertools.pairwise(SIZES):
            in_bin = ious[(sizes > lowest) & (sizes <= highest)]
            if len(in_bin):
                name = f"{100 * lowest:g} - {100 * highest:g} %"
                values[name] = float(in_bin.mean())
                texts[name] = f"{values[name]:.2f} ({len(in_bin):,})"
        return Bars(
            "IoU of a class in an image, by its share of the image", "mean IoU (number of cases)", values, texts
        )

    def _confusion(self) -> Tensor:
        """Return the number of pixels by target and predicted class, Long[K K]."""
        _, pairs, pixels = self.once(self._cells)
        num_classes = len(self.class_names)
        return torch.zeros(num_classes**2, dtype=torch.long).index_add_(0, pairs, pixels).view(num_classes, num_classes)

    def _overlaps(self) -> Tensor:
        """Return the pixel counts of the intersection, the union and the annotation of each class, Long[N 3 K]."""
        images, pairs, pixels = self.once(self._cells)
        num_classes = len(self.class_names)
        targets, predicted = pairs // num_classes, pairs % num_classes
        parts = (targets, pixels * (targets == predicted)), (targets, pixels), (predicted, pixels)
        intersection, annotated, covered = (
            torch.zeros(len(self) * num_classes, dtype=torch.long)
            .index_add_(0, images * num_classes + classes, counts)
            .view(len(self), num_classes)
            for classes, counts in parts
        )
        return torch.stack([intersection, annotated + covered - intersection, annotated], 1)

    def _cells(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the index of the image, the pair of classes and the number of pixels of each entry, Long[M] each."""
        counts = torch.tensor([len(entry.pairs) for entry in self.rows], dtype=torch.long)
        empty = torch.empty(0, dtype=torch.long)
        pairs = torch.cat([empty, *(entry.pairs for entry in self.rows)])
        pixels = torch.cat([empty, *(entry.pixels for entry in self.rows)])
        return torch.arange(len(counts)).repeat_interleave(counts), pairs, pixels
