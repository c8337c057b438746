"""What a file is asked, and what PyTorch answers."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor

from kit.exporting.protocol import ExportedMaker
from kit.prediction import Predictor

AT_ONCE = 3  # a net that was recorded with one number of images may take no other


class Question(NamedTuple):
    """
    inputs: what the file gets of one image, with a batch dimension each.
    answer: gives what PyTorch does.
    """

    inputs: tuple[Tensor, ...]
    answer: Callable[[], Any]


class Questions(NamedTuple):
    """
    alone: those that are asked one by one.
    together: those that are also asked in one batch.
    words: what they are about, as `12 images of test`.
    """

    alone: list[Question]
    together: list[Question]
    words: str


def about_images(model: Predictor, images: Sequence[Tensor], words: str = "") -> Questions:
    """images: uint8 [C H W], of any size."""
    first = images[0]
    flipped = [first, first.flip(2), first.flip(1)]  # of one size

    def questions(some: Sequence[Tensor]) -> list[Question]:
        return [Question((as_input(image),), partial(predict, model, image)) for image in some]

    return Questions(questions(images), questions(flipped), words)


def about_making(model: Predictor, exported: ExportedMaker, count: int) -> Questions:
    """For a task that takes no images."""
    several = zip(*(tensor.split(1) for tensor in exported.example(model.preprocessing, count)), strict=True)
    asked = [Question(inputs, partial(exported.answer, model.task, *inputs)) for inputs in several]
    return Questions(asked, asked[:AT_ONCE], f"{count} samples")


def predict(model: Predictor, image: Tensor) -> Any:
    """What `model.predict` gives for uint8 [C H W], without its threads, which read files."""
    pixels, size = model.preprocessing.read(image)
    return model.predict_read(pixels[None], [size])[0]


def as_input(image: Tensor) -> Tensor:
    """uint8 [C H W] to uint8 [1 H W C]."""
    return image.permute(1, 2, 0)[None].contiguous()
