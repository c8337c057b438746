"""A trained model with the preprocessing that it was trained with."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from PIL import Image
from torch import Tensor

from project import UserError, checkpoint
from project.cli import build
from project.pipeline import Preprocessing
from project.pipeline.threads import cores, in_threads
from project.safeguards.shortage import one_sample

ImageLike = str | Path | Image.Image | Tensor  # a tensor is uint8 [C H W]
BATCHES_AHEAD = 2  # decoded while the net is at work, beside one for each core


def load(run_or_checkpoint: str | Path, device: str | None = None, trust: Sequence[str] = ()) -> "Predictor":
    """The model of a run (its best checkpoint), or of a checkpoint file, ready to be used; it needs nothing else.

    Args:
        device: `cpu`, `cuda`, `mps`; by default a GPU of CUDA if there is one.
        trust: packages of others whose classes the checkpoint may name.

    Raises:
        UserError: there is no such run, the checkpoint is damaged or names what it may not, or it says nothing about
            the preprocessing.
    """
    file = checkpoint.find(str(run_or_checkpoint))
    content, parts = checkpoint.load(file, trust)
    with checkpoint.blamed(file, "cannot be loaded"):
        task = build(L.LightningModule, "model", parts["model"])
        checkpoint.fill(task, content["state_dict"], file)
        taught = content.get(parts["data"]["class_path"].rsplit(".", 1)[-1])
        preprocessing = Preprocessing.of(taught if isinstance(taught, dict) else {})
    if not hasattr(task, "predict"):
        raise UserError(f"{file}: {type(task).__name__} has no `predict(images, sizes, areas)`, as Classifier has it")
    try:
        task.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:  # torch's words for what it has not, or does not know
        raise UserError(f"device '{device}' cannot be used: {str(error).splitlines()[0]}") from None
    return Predictor(task, preprocessing)


class Predictor:
    """
    task: the LightningModule, in evaluation mode.
    preprocessing: what is done to an image before.
    """

    def __init__(self, task: L.LightningModule, preprocessing: Preprocessing) -> None:
        self.task, self.preprocessing = task.eval().requires_grad_(False), preprocessing

    @property
    def _task(self) -> Any:
        """With what a task has beside a LightningModule."""
        return self.task

    @property
    def class_names(self) -> list[str]:
        return list(self._task.class_names)

    def predict(self, images: Iterable[ImageLike], batch_size: int = 32) -> list[Any]:
        """What the task's `predict` makes of each image, in their order.

        Args:
            images: files, PIL images of any mode, or tensors, uint8 [C H W]; of any size.

        Raises:
            UserError: one of them cannot be read.
        """
        if isinstance(images, (str, Path, Image.Image)) or (isinstance(images, Tensor) and images.ndim == 3):
            raise UserError("predict takes a list of images: [image]")
        found = []
        for _, outcome in self.stream(images, batch_size):
            if isinstance(outcome, UserError):
                raise outcome
            found.append(outcome)
        return found

    def stream(self, images: Iterable[ImageLike], batch_size: int = 32) -> Iterator[tuple[ImageLike, Any]]:
        """Each image with what `predict` makes of it, or with the `UserError` that reading it raised.

        A few batches are in memory at a time, however many images there are.
        """
        size = batch_size if self.preprocessing.size else 1  # of one size, or else one by one
        batches = in_threads(self._read, _batched(images, size), at_once=1, ahead=cores() + BATCHES_AHEAD)
        for some, read in batches:
            good = [outcome for outcome in read if not isinstance(outcome, UserError)]
            found = iter(
                self._predict(torch.stack([pixels for pixels, _ in good]), [s for _, s in good]) if good else []
            )
            for image, outcome in zip(some, read, strict=True):
                yield image, outcome if isinstance(outcome, UserError) else next(found)

    def _read(
        self, images: list[ImageLike]
    ) -> tuple[list[ImageLike], list[tuple[Tensor, tuple[int, int]] | UserError]]:
        read: list[tuple[Tensor, tuple[int, int]] | UserError] = []
        for image in images:
            try:
                read.append(self.preprocessing.read(image))
            except UserError as error:
                read.append(error)
        return images, read

    def _predict(self, pixels: Tensor, sizes: list[tuple[int, int]]) -> list[Any]:
        """Of uint8 [B C H W]; in halves where the device has too little memory."""
        try:
            with torch.inference_mode():
                images = self.preprocessing.normalise(pixels.to(self.task.device))
                return self._task.predict(images, sizes, [self.preprocessing.area(size) for size in sizes])
        except torch.OutOfMemoryError as error:
            said = str(error)
        if len(pixels) == 1:
            raise one_sample(pixels, said)
        half = len(pixels) // 2
        return [*self._predict(pixels[:half], sizes[:half]), *self._predict(pixels[half:], sizes[half:])]


def _batched(images: Iterable[ImageLike], size: int) -> Iterator[list[ImageLike]]:
    images = iter(images)
    while some := list(islice(images, size)):
        yield some
