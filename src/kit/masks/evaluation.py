"""How well pixels are classified."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.evaluation import Details, Evaluation
from kit.formats.masks.masks import IGNORED


class Entry(NamedTuple):
    """An image's confusions, without those that do not occur.

    loss: Float[], the cross-entropy summed over the pixels that are not ignored.
    pairs: Long[M], target * K + predicted class.
    pixels: Long[M], how many pixels each pair has.
    """

    loss: Tensor
    pairs: Tensor
    pixels: Tensor


class MaskEvaluation(Evaluation):
    """Mean intersection over union (`miou`), `pixel_accuracy` and cross-entropy (`loss`), over all pixels of the split
    that are not ignored.

    A class that neither the targets nor the predictions show has no IoU and is left out of the mean. `outputs` are
    logits, Float[B K H W], and `targets` class numbers or `IGNORED`, Long[B H W].
    """

    score_name = "miou"

    def entries(self, outputs: Tensor, targets: Tensor) -> list[Entry]:
        images, classes = outputs.shape[:2]
        counted = targets != IGNORED
        losses = F.cross_entropy(outputs, targets, reduction="none", ignore_index=IGNORED).flatten(1).sum(1).float()
        image = torch.arange(images, device=targets.device)[:, None, None].expand_as(targets)
        places = ((image * classes + targets) * classes + outputs.argmax(1))[counted]
        table = torch.bincount(places, minlength=images * classes**2).view(images, classes**2)
        own, pairs = table.nonzero(as_tuple=True)
        lengths = torch.bincount(own, minlength=images).tolist()
        parts = zip(losses, pairs.split(lengths), table[own, pairs].split(lengths), strict=True)
        return [Entry(*part) for part in parts]

    def compute(self, by_class: bool = False) -> dict[str, float]:
        confusion = self.once(self._confusion)
        pixels = confusion.sum()  # if all are ignored, what is divided by it is NaN
        values = {
            "loss": float(sum(entry.loss.double() for entry in self.rows) / pixels),
            "miou": float(iou(confusion).nanmean()),
            "pixel_accuracy": float(confusion.diagonal().sum() / pixels),
        }
        return {**values, **self._by_class()} if by_class else values

    def shares(self) -> Tensor:
        return self.once(self._overlaps).double()

    def badness(self) -> tuple[str, Tensor]:
        both, either = self.once(self._overlaps).unbind(1)
        return "1 - IoU", 1 - (both / either).nanmean(1).nan_to_num(1)  # if all of it is ignored, nothing is bad

    def details(self) -> Details:
        return {"confusion": self.once(self._confusion), "by_class": self._by_class()}

    def _by_class(self) -> dict[str, float]:
        """Return the IoU of each class that has one."""
        named = zip(self.class_names, iou(self.once(self._confusion)).tolist(), strict=True)
        return {f"iou/{name}": value for name, value in named if value == value}

    def _confusion(self) -> Tensor:
        """Return the pixels of each target and predicted class, Long[K K]."""
        classes = len(self.class_names)
        total = torch.zeros(classes**2, dtype=torch.long)
        for entry in self.rows:
            total[entry.pairs] += entry.pixels
        return total.view(classes, classes)

    def _overlaps(self) -> Tensor:
        """Return the pixels of each image's and class's intersection and union, Long[N 2 K]."""
        classes = len(self.class_names)
        overlaps = torch.zeros(len(self), 2, classes, dtype=torch.long)
        for (both, either), entry in zip(overlaps, self.rows, strict=True):
            targets, predicted = entry.pairs // classes, entry.pairs % classes
            same = targets == predicted
            both[targets[same]] = entry.pixels[same]
            either.index_add_(0, targets, entry.pixels).index_add_(0, predicted, entry.pixels).sub_(both)
        return overlaps


def iou(confusion: Tensor) -> Tensor:
    """Intersection over union of each class, Float[K], of Long[K K] with a row for each target; 0/0 is NaN."""
    both = confusion.diagonal()
    return both / (confusion.sum(0) + confusion.sum(1) - both)
