"""The module that the verb `export` writes to a file."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Exported(nn.Module):
    """`masks`, the class of each pixel of the original images, uint8 [B H W]; of a thousand a file's may differ in one.

    The attributes are as `kit.exporting.protocol` says.
    """

    task = "segmentation"
    outputs: ClassVar = {"masks": {0: "batch", 1: "height", 2: "width"}}
    one_at_a_time = False
    measured = "largest share of an image's pixels that are of another class"
    tolerance = 0.001
    counted = ""

    def __init__(self, net: nn.Module, left_out: str = "") -> None:
        super().__init__()
        self.net, self.left_out = net, left_out

    def forward(self, images: Tensor, size: tuple[Any, Any], area: tuple[Any, Any]) -> tuple[Tensor]:
        logits = self.net(images)[:, :, : area[0], : area[1]].float()
        # Even where the sizes are equal: while a graph is recorded, that is not known of other images.
        return (F.interpolate(logits, size, mode="bilinear", align_corners=False).argmax(1).to(torch.uint8),)

    def difference(self, found: Mapping[str, Tensor], predicted: Tensor) -> float:
        if found["masks"].shape != predicted.shape:
            return float("inf")
        return float((found["masks"] != predicted).float().mean())

    def count(self, predicted: Any) -> int:
        return 1
