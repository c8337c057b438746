"""The module that the verb `export` writes for a task that paints pictures."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from kit.samples.pictures import pixels


class ExportedStylizer(nn.Module):
    """`pictures`, uint8 [B H W C], as large as the images; a file's pixels may differ by 1 of 255.

    The attributes are as `kit.exporting.protocol` says.
    """

    task = "style"
    outputs: ClassVar = {"pictures": {0: "batch", 1: "height", 2: "width"}}
    one_at_a_time = False
    left_out = ""
    measured = "largest difference of a pixel, of 255,"
    tolerance = 1
    counted = ""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, size: tuple[Any, Any], area: tuple[Any, Any]) -> tuple[Tensor]:
        return (pixels(self.net(images).float()).permute(0, 2, 3, 1),)

    def difference(self, found: Mapping[str, Tensor], predicted: Tensor) -> float:
        return largest_difference(found["pictures"], predicted)

    def count(self, predicted: Tensor) -> int:
        return 1


def largest_difference(found: Tensor, predicted: Tensor) -> float:
    """Of uint8 [H W C] and uint8 [C H W]; infinite where the sizes are not the same."""
    predicted = predicted.permute(1, 2, 0)
    if found.shape != predicted.shape:
        return float("inf")
    return float((found.int() - predicted.int()).abs().max())
