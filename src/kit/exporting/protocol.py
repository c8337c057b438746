"""Describe what a task's `exported()` returns, so that exporting does not depend on the tasks."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from kit.data import Preprocessing


class Exported(Protocol):
    """A torch module that can be exported, with a description.

    task: the name of the task, as `classification`, which is written into the file.
    outputs: the names of the outputs of `forward`, and of their dynamic dimensions by index, as {0: "batch"}.
    one_at_a_time: whether the file takes one image, and the outputs have no batch dimension.
    left_out: a description of what the task does in evaluation and the file does not, or "". If there is such a thing,
        the task's method `plain()` returns a copy without it, with which the file is compared.
    measured: a description of `difference`.
    tolerance: the largest allowed difference on any image.
    counted: the objects that are compared, as `boxes`, if an image may have none; or "".
    """

    task: str
    outputs: Mapping[str, Mapping[int, str]]
    one_at_a_time: bool
    left_out: str
    measured: str
    tolerance: float
    counted: str

    def forward(self, images: Tensor, size: tuple[Any, Any], area: tuple[Any, Any]) -> tuple[Tensor, ...]:
        """Return the outputs.

        Args:
            images: Float[B C H W], normalised.
            size: the original images' height and width.
            area: the height and width of their part of `images`, from the top left.
        """

    def difference(self, outputs: Mapping[str, Tensor], predicted: Any) -> float:
        """Return the difference between a file's outputs for an image and the task's prediction."""

    def count(self, predicted: Any) -> int:
        """Return the number of objects (see `counted`) in the task's prediction for an image."""


@runtime_checkable
class ExportedMaker(Protocol):
    """What an `Exported` has in addition if its task generates images.

    inputs: the names of the inputs of `forward`, and of their dynamic dimensions by index.
    """

    inputs: Mapping[str, Mapping[int, str]]

    def example(self, preprocessing: Preprocessing, count: int) -> tuple[Tensor, ...]:
        """Return inputs for `count` images like the training images. The first ones do not depend on `count`.

        Raises:
            UserError: no such images can be generated.
        """

    def answer(self, task: Any, *inputs: Tensor) -> Any:
        """Return the task's own output for the inputs of one image, for `difference`."""
