"""Write generated and painted images to files."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from kit.data import Preprocessing
from kit.ground.errors import UserError, did_you_mean
from kit.ground.files import replacing
from kit.ground.ranges import FiniteFloat, NonNegativeFloat, PositiveInt
from kit.samples import pictures

MAX_COLUMNS = 20  # of `grid.png`
MAX_IN_GRID = 1000  # the largest number of samples in `grid.png`
MAX_LISTED = 20  # the largest number of class names in an error message
STRIDE = 1_000_003  # sample i has the seed `seed` * STRIDE + i
MAX_SEED = 10**12  # so that the seeds of all samples fit into 64 bits


class SampleFiles:
    """Write `samples/00000_CLASS.png`, ... and `grid.png`, a picture of the first thousand samples.

    Args:
        folder: the folder of the results.
        class_names: the names of the model's classes.
        num_samples: the number of samples.
        classes: the names of the classes to generate in turn, separated by commas; by default all classes.
        seed: the seed of the noise. The samples do not depend on the batch size.
        guidance: the strength of the guidance towards the class; 1 is no guidance. By default, this and the options
            below have the values of the run.
        steps: the number of steps from noise to image, at least 1.
        churn: each step but the first starts with the noise level raised by the factor 1 + churn.
        solver: the method that takes the steps. A step of heun takes twice as long as a step of euler.
    """

    def __init__(
        self,
        folder: Path,
        class_names: Sequence[str],
        num_samples: PositiveInt = 100,
        classes: str | None = None,
        seed: int = 0,
        guidance: FiniteFloat | None = None,
        steps: PositiveInt | None = None,
        churn: NonNegativeFloat | None = None,
        solver: Literal["euler", "heun"] | None = None,
    ) -> None:
        if not -MAX_SEED < seed < MAX_SEED:
            raise UserError(f"seed is {seed}, but must be a number of at most twelve digits")
        self.folder, self.class_names, self.num_samples, self.seed = folder, class_names, num_samples, seed
        self.guidance, self.steps, self.churn, self.solver = guidance, steps, churn, solver
        self.classes = [_class_index(name.strip(), class_names) for name in classes.split(",")] if classes else []

    def make(self, model: Any, batch_size: int) -> list[Path]:
        """Generate the samples, a batch at a time, and write the files.

        Args:
            model: a `kit.prediction.Predictor`.
            batch_size: the number of samples in a batch of the net.
        """
        size = size_of_samples(model.preprocessing)
        sampler = model.task.make_sampler(self.guidance, model.task.solver.replace(self.solver, self.steps, self.churn))
        classes_in_turn = torch.tensor(self.classes or range(len(self.class_names)))
        folder, grid = self.folder / "samples", self.folder / "grid.png"
        for old_sample in folder.glob("[0-9][0-9][0-9][0-9][0-9]*_*.png"):
            old_sample.unlink()
        in_grid: list[Tensor] = []
        for indices in torch.arange(self.num_samples).split(batch_size):
            classes = classes_in_turn[indices % len(classes_in_turn)]
            seeds = (self.seed * STRIDE + indices).tolist()
            images = model.task.sample(classes, seeds, size, batch_size, sampler)
            for index, k, image in zip(indices.tolist(), classes.tolist(), images, strict=True):
                name = re.sub(r"[^\w.-]", "_", self.class_names[k])
                _save(image, folder / f"{index:05}_{name}.png", "PNG")
            in_grid += images[: max(0, MAX_IN_GRID - len(in_grid))]
        _save(pictures.grid(torch.stack(in_grid), columns(len(in_grid), len(classes_in_turn))), grid, "PNG")
        return [grid, folder]


def _save(image: Tensor, file: Path, image_format: str, **options: Any) -> None:
    with replacing(file) as part:
        to_pil_image(image).save(part, image_format, **options)


def columns(num_images: int, num_classes: int) -> int:
    """Return the number of columns that makes a grid about as high as wide.

    For at most `MAX_COLUMNS` classes, it is a multiple of their number, so that each column shows one class.
    """
    square = min(math.ceil(math.sqrt(num_images)), MAX_COLUMNS)
    return max(1, square // num_classes) * num_classes if num_classes <= MAX_COLUMNS else square


def size_of_samples(preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the height and width of samples, which are those of the training images.

    Raises:
        UserError: the training images had several sizes.
    """
    if preprocessing.size is None:
        raise UserError("the training images had several sizes, so the size of samples is unknown")
    return preprocessing.size


def _class_index(name: str, class_names: Sequence[str]) -> int:
    """Return the index of the class with a name, or else of the only class whose name begins with this word.

    For example, `3` finds the class `3 - three` of MNIST.
    """
    exact = [k for k, known in enumerate(class_names) if known == name]
    matches = exact or [k for k, known in enumerate(class_names) if known.split()[:1] == [name]]
    if len(matches) != 1:
        listed = ", ".join(class_names[:MAX_LISTED])
        raise UserError(f"--classes: the model has no class '{name}'{did_you_mean(name, class_names)}; it has {listed}")
    return matches[0]


class PaintingFiles:
    """Write `pictures/NAME.jpg`, a painted image of the same size, for each image.

    Args:
        folder: the folder of the results.
        class_names: unused.
        quality: the JPEG quality, from 1 to 100.
    """

    FOLDERS = ("pictures",)

    def __init__(self, folder: Path, class_names: Sequence[str], quality: PositiveInt = 95) -> None:
        self.pictures, self.quality = folder / "pictures", quality

    def picture(self, file: Path, name: str, prediction: Tensor) -> None:
        _save(prediction[:3], self.pictures / f"{name}.jpg", "JPEG", quality=self.quality)

    def add(self, file: Path, name: str, prediction: Tensor) -> None:
        """Do nothing: each image has a file of its own."""

    def finish(self) -> list[Path]:
        return [self.pictures]
