"""Load a trained model with its preprocessing, and apply it to images."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import lightning as L
import torch
from PIL import Image
from torch import Tensor

from kit.checkpoints import checkpoint
from kit.config.parser import build
from kit.data import Preprocessing
from kit.ground.checkpoint_limits import Budget
from kit.ground.errors import UserError, one_line
from kit.ground.memory import in_halves, return_freed_memory
from kit.ground.threads import available_cores, map_in_threads
from kit.ground.unexpected import doing
from kit.task import as_task

ImageLike = str | Path | Image.Image | Tensor  # a tensor is uint8 [C H W]
MAX_BYTES_AHEAD = 256 << 20  # the memory for images that are decoded in advance; two batches may take more
UNRESIZED_BYTES = 12 << 20  # the assumed size of a decoded image that is not resized
MAX_CHUNK = 8  # the largest number of images that a thread decodes at a time
LARGE_PIXELS = 1 << 24  # the memory of images with more pixels is returned to the system at once


def load(run_or_checkpoint: str | Path, device: str | None = None, trust: Sequence[str] = ()) -> "Predictor":
    """Load the model of a run's best checkpoint or of a checkpoint file.

    Args:
        run_or_checkpoint: the path of the run's folder or of the checkpoint file.
        device: `cpu`, `cuda` or `mps`; by default a CUDA GPU if there is one.
        trust: further packages whose classes the checkpoint may name.

    Raises:
        UserError: there is no such run or device, or the checkpoint is damaged, names something that is not trusted, or
            has no preprocessing.
    """
    file = checkpoint.find(str(run_or_checkpoint))
    content, parts = checkpoint.load(file, trust)
    with doing(f"loading {file}"):
        with Budget(file):
            task = build(L.LightningModule, "model", parts["model"])
        checkpoint.load_weights(task, content["state_dict"], file)
        preprocessing = Preprocessing.from_state(checkpoint.data_state(content, parts))
    try:
        task.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError) as error:  # the device is missing, or its name is unknown
        raise UserError(f"device '{device}' cannot be used: {one_line(error)}") from None
    return Predictor(task, preprocessing)


class Predictor:
    """A trained model with its preprocessing.

    task: the LightningModule, in evaluation mode.
    preprocessing: the steps between an image and the net's input.
    """

    def __init__(self, task: L.LightningModule, preprocessing: Preprocessing) -> None:
        self.task: Any = task.eval().requires_grad_(False)
        self.preprocessing = preprocessing

    @property
    def class_names(self) -> list[str]:
        return list(self.task.class_names)

    @property
    def takes_images(self) -> bool:
        """Whether the task predicts from images. Otherwise it generates images."""
        return as_task(self.task).has("predict")

    def predict(self, images: Iterable[ImageLike], batch_size: int = 32) -> list[Any]:
        """Return a prediction for each image, in order.

        Args:
            images: files, PIL images of any mode, or tensors uint8 [C H W]. They may have any sizes.
            batch_size: the number of images in a batch.

        Raises:
            UserError: an image cannot be read.
        """
        if isinstance(images, (str, Path, Image.Image)) or (isinstance(images, Tensor) and images.ndim == 3):
            raise UserError("predict takes a list of images: [image]")
        predictions = []
        for _, outcome in self.stream(images, batch_size):
            if isinstance(outcome, UserError):
                raise outcome
            predictions.append(outcome)
        return predictions

    def stream(self, images: Iterable[ImageLike], batch_size: int = 32) -> Iterator[tuple[ImageLike, Any]]:
        """Yield each image with its prediction, or with the `UserError` that reading it raised.

        Only a few batches are in memory at a time.
        """
        if not self.takes_images:
            raise UserError(f"{type(self.task).__name__} takes no images: it has no method `predict`")
        batch_size = batch_size if self.preprocessing.size else 1  # images of different sizes cannot be in one batch
        outcomes = map_in_threads(self._read, images, *self._chunk_limits(batch_size))
        while batch := list(islice(outcomes, batch_size)):
            decoded = [outcome for _, outcome in batch if not isinstance(outcome, UserError)]
            pixels, sizes = [pixels for pixels, _ in decoded], [size for _, size in decoded]
            if is_large := any(height * width > LARGE_PIXELS for height, width in sizes):
                return_freed_memory()  # the memory that decoding used
            predictions = iter(self.predict_pixels(torch.stack(pixels), sizes) if decoded else [])
            if is_large:
                return_freed_memory()
            for image, outcome in batch:
                yield image, outcome if isinstance(outcome, UserError) else next(predictions)

    def _chunk_limits(self, batch_size: int) -> tuple[int, int]:
        """Return how many images a thread decodes at a time (a chunk), and how many chunks are decoded in advance."""
        preprocessing, workers = self.preprocessing, available_cores() + 2
        image_bytes = preprocessing.channels * math.prod(preprocessing.size or ())
        max_images = MAX_BYTES_AHEAD // (image_bytes if preprocessing.size else UNRESIZED_BYTES)
        chunk = max(1, min(MAX_CHUNK, batch_size, max_images // workers))
        return chunk, math.ceil(max(2 * batch_size, min(workers * chunk, max_images)) / chunk)

    def _read(self, image: ImageLike) -> tuple[ImageLike, tuple[Tensor, tuple[int, int]] | UserError]:
        """Return the image with the result of `Preprocessing.read`, or with the `UserError` that reading raised."""
        try:
            return image, self.preprocessing.read(image)
        except UserError as error:
            return image, error

    def predict_pixels(self, pixels: Tensor, sizes: list[tuple[int, int]]) -> list[Any]:
        """Return the predictions for a batch. If the batch does not fit into memory, it is computed in parts.

        Args:
            pixels: uint8 [B C H W], from `Preprocessing.read`.
            sizes: the original height and width of each image.

        Raises:
            DoesNotFit: a single image does not fit into memory.
        """
        return [prediction for part in in_halves(self._predict_at_once, pixels, sizes) for prediction in part]

    @torch.inference_mode()
    def _predict_at_once(self, pixels: Tensor, sizes: list[tuple[int, int]]) -> list[Any]:
        images = self.preprocessing.normalise(pixels.to(self.task.device))
        return self.task.predict(images, sizes, [self.preprocessing.unpadded_size(size) for size in sizes])
