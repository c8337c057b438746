"""A trained model with the preprocessing that it was trained with."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from math import ceil
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from PIL import Image
from torch import Tensor

from kit.checkpoints import checkpoint
from kit.checkpoints.building import build
from kit.data import Preprocessing
from kit.ground.budget import Budget
from kit.ground.errors import UserError, in_a_line
from kit.ground.out_of_memory import one_sample
from kit.ground.threads import cores, in_threads
from kit.task import as_task

T = TypeVar("T")
ImageLike = str | Path | Image.Image | Tensor  # a tensor is uint8 [C H W]
BYTES_AHEAD = 256 << 20  # of pixels decoded while the net is at work: no more, but two batches at least
BYTES_OF_ANY = 12 << 20  # a guess at an image that keeps its own size
PIECE = 8  # images that a thread decodes at a time, at most


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
        with Budget(content.get("state_dict"), file):
            task = build(L.LightningModule, "model", parts["model"])
        checkpoint.fill(task, content["state_dict"], file)
        taught = content.get(parts["data"]["class_path"].rsplit(".", 1)[-1])
        preprocessing = Preprocessing.of(taught if isinstance(taught, dict) else {})
    made = Predictor(task, preprocessing)
    if not made.takes_images and not hasattr(as_task(task).Predictions, "make"):
        raise UserError(f"{file}: {type(task).__name__} has no `predict(images, sizes, areas)`, as Classifier has it")
    try:
        task.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:  # torch's words for what it has not, or does not know
        raise UserError(f"device '{device}' cannot be used: {in_a_line(error)}") from None
    return made


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

    @property
    def takes_images(self) -> bool:
        """Or it makes images itself."""
        return as_task(self.task).has("predict")

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
        if not self.takes_images:
            raise UserError(f"{type(self.task).__name__} takes no images; `model.task.sample` makes some")
        size = batch_size if self.preprocessing.size else 1  # of one size, or else one by one
        for batch in _batched(in_threads(self._read, images, *self._ahead(size)), size):
            good = [outcome for _, outcome in batch if not isinstance(outcome, UserError)]
            found = iter(
                self.predict_read(torch.stack([pixels for pixels, _ in good]), [s for _, s in good]) if good else []
            )
            for image, outcome in batch:
                yield image, outcome if isinstance(outcome, UserError) else next(found)

    def _ahead(self, batch_size: int) -> tuple[int, int]:
        """How many images a thread takes at a time, and how many times that many are decoded in advance."""
        how, workers = self.preprocessing, cores() + 2
        affordable = BYTES_AHEAD // (how.channels * how.size[0] * how.size[1] if how.size else BYTES_OF_ANY)
        piece = max(1, min(PIECE, batch_size, affordable // workers))
        return piece, ceil(max(2 * batch_size, min(workers * piece, affordable)) / piece)

    def _read(self, image: ImageLike) -> tuple[ImageLike, tuple[Tensor, tuple[int, int]] | UserError]:
        try:
            return image, self.preprocessing.read(image)
        except UserError as error:
            return image, error

    def predict_read(self, pixels: Tensor, sizes: list[tuple[int, int]]) -> list[Any]:
        """Of uint8 [B C H W] and the images' own sizes, as the preprocessing has read them; in halves where the device
        has too little memory."""
        try:
            with torch.inference_mode():
                images = self.preprocessing.normalise(pixels.to(self.task.device))
                return self._task.predict(images, sizes, [self.preprocessing.area(size) for size in sizes])
        except torch.OutOfMemoryError as error:
            said = str(error)
        if len(pixels) == 1:
            raise one_sample(pixels, said)
        half = len(pixels) // 2
        return [*self.predict_read(pixels[:half], sizes[:half]), *self.predict_read(pixels[half:], sizes[half:])]


def _batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    items = iter(items)
    while some := list(islice(items, size)):
        yield some
