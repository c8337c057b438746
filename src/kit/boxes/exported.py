"""The module that the verb `export` writes to a file."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

UNSURE = 0.01  # so much above the lowest score that a net lets through, a detection may be missing: rounding decides


class Exported(nn.Module):
    """`boxes` Float[N 4] XYXY in pixels of the original image, `scores` Float[N], `labels` Long[N] from 1 to K.

    As of `Detector.predict`, the surest first; each of a file's boxes has one there with an IoU of at least 0.99 and a
    score that differs by at most 0.01. The attributes are as `kit.exporting.protocol` says.
    """

    task = "detection"
    outputs: ClassVar = {name: {0: "objects"} for name in ("boxes", "scores", "labels")}
    one_at_a_time = True  # each image has another number of boxes
    measured = "largest 1 - IoU, or difference of the score, of a box and PyTorch's of the same class"
    tolerance = 0.01
    counted = "boxes"

    def __init__(self, net: nn.Module, left_out: str = "") -> None:
        super().__init__()
        self.net, self.left_out = net, left_out

    def forward(self, images: Tensor, size: tuple[Any, Any], area: tuple[Any, Any]) -> tuple[Tensor, Tensor, Tensor]:
        (found,) = self.net(images)
        order = found["scores"].argsort(descending=True)
        found = to_original({key: found[key][order] for key in ("boxes", "scores", "labels")}, size, area)
        return found["boxes"], found["scores"], found["labels"]

    def count(self, predicted: Mapping[str, Tensor]) -> int:
        return int((predicted["scores"] > self._lowest(predicted) + UNSURE).sum())

    def difference(self, found: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> float:
        """1 where one has a box and the other none of its class; infinite where anything is not finite."""
        return float(max(self.distances(found, predicted), default=0.0))

    def distances(self, found: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> Tensor:
        """Of each box that must be there, of either, to its own among the other's: see `measured`."""
        both = (found, predicted)
        if not all(some[key].isfinite().all() for some in both for key in ("boxes", "scores")):
            return torch.tensor([torch.inf])
        sure = max(self._lowest(some) for some in both) + UNSURE
        return torch.cat([_to_nearest(found, predicted, sure), _to_nearest(predicted, found, sure)])

    def _lowest(self, found: Mapping[str, Tensor]) -> float:
        """The score that a detection needs: the net's threshold; of the last one, where as many as it gives are there.

        Named as in all of torchvision's detectors; of a net without such names every detection counts.
        """
        ends = [m for m in self.net.modules() if hasattr(m, "score_thresh") and hasattr(m, "detections_per_img")]
        lowest = max((float(end.score_thresh) for end in ends), default=0.0)
        most = min((int(end.detections_per_img) for end in ends), default=None)
        full = most is not None and len(found["scores"]) >= most > 0
        return max(lowest, float(found["scores"].min())) if full else lowest


def to_original(detected: Mapping[str, Tensor], size: tuple[Any, Any], area: tuple[Any, Any]) -> dict[str, Tensor]:
    """Detections in pixels of the original image, clipped to it; what lay in the padding is left out.

    Args:
        size: the original height and width: numbers or, while a graph is recorded, tensors of no dimension.
        area: the height and width that the original takes of the image that the net saw, from its top left.
    """
    whole, shown = (torch.stack([torch.as_tensor(side) for side in sides]).double() for sides in (size, area))
    boxes = detected["boxes"].float()
    factor, most = (whole / shown).flip(0).to(boxes), whole.flip(0).to(boxes)  # x and y
    corners = boxes.view(-1, 2, 2) * factor  # [N, first and last, x and y]
    corners = torch.minimum(corners, most).clamp(min=0)
    there = (corners[:, 1] > corners[:, 0]).all(1)
    return {
        "boxes": corners.flatten(1)[there],
        "scores": detected["scores"][there].float(),
        "labels": detected["labels"][there],
    }


def _to_nearest(some: Mapping[str, Tensor], others: Mapping[str, Tensor], sure: float) -> Tensor:
    """Of each of `some` above the score `sure`, in their order, to the nearest of `others` that no earlier one has."""
    wanted = some["scores"] > sure
    apart = 1 - box_iou(some["boxes"][wanted], others["boxes"])
    apart = torch.maximum(apart, (some["scores"][wanted][:, None] - others["scores"]).abs())
    apart[some["labels"][wanted][:, None] != others["labels"]] = 1
    distances = torch.ones(len(apart))
    for place in range(min(apart.shape)):
        distances[place], nearest = apart[place].min(0)
        apart[:, nearest] = 1
    return distances
