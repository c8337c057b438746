"""What a task's `exported()` gives, so that nothing here has to know the tasks."""

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from kit.data import Preprocessing


class Exported(Protocol):
    """A torch module, and what is to be known about it.

    task: `classification`, ...: it stands in the file.
    outputs: the names of what `forward` returns, and the names of their open dimensions by place: {0: "batch"}.
    one_at_a_time: the file takes one image, and the outputs have no batch dimension.
    left_out: what the task does in evaluation and the file does not, in words; empty if there is nothing. If there is,
        the task has a method `plain()` that returns a copy without it. The file is compared with that copy.
    measured: what `difference` is, in words.
    tolerance: how large it may be on any image.
    counted: what an image may have none of, so that nothing is compared: `boxes`; empty if there is no such thing.
    """

    task: str
    outputs: Mapping[str, Mapping[int, str]]
    one_at_a_time: bool
    left_out: str
    measured: str
    tolerance: float
    counted: str

    def forward(self, images: Tensor, size: tuple[Any, Any], area: tuple[Any, Any]) -> tuple[Tensor, ...]:
        """
        Args:
            images: Float[B C H W], normalised.
            size: the original images' height and width.
            area: the height and width that they take of `images`, from the top left.
        """

    def difference(self, found: Mapping[str, Tensor], predicted: Any) -> float:
        """Of what the file gives for an image and what the task's `predict` gives for it."""

    def count(self, predicted: Any) -> int:
        """How many of what is `counted` the task's `predict` gives for an image."""


class ExportedMaker(Protocol):
    """What an `Exported` has beside that where its task takes no images; its `forward` then gets its own `inputs`.

    inputs: the names of what `forward` gets, and of their open dimensions by place.
    """

    inputs: Mapping[str, Mapping[int, str]]

    def example(self, preprocessing: Preprocessing, count: int) -> tuple[Tensor, ...]:
        """Inputs for so many images, as the training images were; the first of more are those of fewer.

        Raises:
            UserError: nothing can be made as they were.
        """

    def answer(self, task: Any, *inputs: Tensor) -> Any:
        """What the task itself gives for inputs of one image, for `difference`."""
