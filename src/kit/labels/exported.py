"""The module that the verb `export` writes to a file."""

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn


class Exported(nn.Module):
    """`probabilities`, Float[B K]; a file's may differ by 0.005. For attributes see `kit.exporting.protocol`."""

    task = "classification"
    outputs: ClassVar = {"probabilities": {0: "batch"}}
    one_at_a_time = False
    left_out = ""
    measured = "largest difference of a probability"
    tolerance = 0.005
    counted = ""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, size: tuple[Any, Any], area: tuple[Any, Any]) -> tuple[Tensor]:
        return (self.net(images).float().softmax(1),)

    def difference(self, found: Mapping[str, Tensor], predicted: Any) -> float:
        return float((found["probabilities"] - predicted.probabilities).abs().max())

    def count(self, predicted: Any) -> int:
        return 1
