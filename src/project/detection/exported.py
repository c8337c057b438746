"""What a file of `project.export` answers."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

UNSURE = 0.01  # so much above the lowest score, a detection may be missing: rounding decides


class Exported(nn.Module):
    """`boxes` Float[N 4] XYXY in pixels of the original image, `scores` Float[N], `labels` Long[N] from 1 to K.

    As of `Detector.predict`, the surest first; a file's boxes have an IoU of at least 0.99 with those. The attributes
    are as `project.exporting.protocol` says.
    """

    task = "detection"
    outputs: ClassVar = {name: {0: "objects"} for name in ("boxes", "scores", "labels")}
    one_at_a_time = True  # each image has another number of boxes
    measured = "largest 1 - IoU of a box with PyTorch's of the same class"
    tolerance = 0.01

    def __init__(self, net: nn.Module, left_out: str = "") -> None:
        super().__init__()
        self.net, self.left_out = net, left_out

    def forward(self, images: Tensor, size: tuple[Any, Any], area: tuple[Any, Any]) -> tuple[Tensor, Tensor, Tensor]:
        (found,) = self.net(images)
        order = found["scores"].argsort(descending=True)
        boxes, scores, labels = (found[key][order] for key in ("boxes", "scores", "labels"))
        whole, shown = (torch.stack([torch.as_tensor(side) for side in sides]).float() for sides in (size, area))
        corners = boxes.float().view(-1, 2, 2) * (whole / shown).flip(0)  # [N, first and last, x and y]
        corners = torch.minimum(corners, whole.flip(0)).clamp(min=0)
        there = (corners[:, 1] > corners[:, 0]).all(1)  # what lay in the padding has no area
        return corners.flatten(1)[there], scores[there].float(), labels[there]

    def difference(self, found: Mapping[str, Tensor], predicted: Mapping[str, Tensor]) -> float:
        """1 where one has a box of a class and the other none, but for those of the lowest scores."""
        scores = torch.cat([found["scores"], predicted["scores"]])
        if not len(scores):
            return 0.0
        sure = scores.min() + UNSURE
        return max(_unlike(found, predicted, sure), _unlike(predicted, found, sure))


def _unlike(some: Mapping[str, Tensor], others: Mapping[str, Tensor], sure: Tensor) -> float:
    """The largest 1 - IoU of a sure one of `some` with the nearest of `others`."""
    wanted = some["scores"] > sure
    if not wanted.any():
        return 0.0
    if not len(others["boxes"]):
        return 1.0
    iou = box_iou(some["boxes"][wanted], others["boxes"])
    same = some["labels"][wanted][:, None] == others["labels"]
    return float(1 - (iou * same).max(1).values.min())
