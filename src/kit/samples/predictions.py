"""Write generated images and images painted in a style to files, and define the modules that `export` writes."""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from kit.data import Preprocessing
from kit.ground.drawing import save_picture
from kit.ground.errors import UserError, did_you_mean
from kit.ground.ranges import FiniteFloat, NonNegativeFloat, PositiveInt
from kit.samples.images import image_grid, noise, to_uint8
from kit.task import ExportedModule

MAX_COLUMNS = 20  # the largest number of columns in `grid.png`
MAX_IN_GRID = 1000  # the largest number of samples in `grid.png`
MAX_LISTED = 20  # the largest number of class names in an error message
STRIDE = 1_000_003  # sample i has the seed (`seed` * STRIDE + i) modulo 2^63


class SampleFiles:
    """Write `samples/NUMBER_CLASS.png` for each sample, and `grid.png`, a picture of the first thousand samples.

    Args:
        folder: the folder of the results.
        class_names: the names of the model's classes.
        num_samples: the number of samples.
        classes: the names of the classes to generate in turn, separated by commas; by default all classes.
        seed: the seed of the noise. The samples do not depend on the batch size.
        guidance: the strength of the guidance towards the class; 1 is no guidance. By default, `guidance` and the
            options below have the values of the run.
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
        self.folder, self.class_names, self.num_samples, self.seed = folder, class_names, num_samples, seed
        self.guidance, self.steps, self.churn, self.solver = guidance, steps, churn, solver
        self.classes = _class_indices(classes, class_names) if classes else []

    def make(self, model: Any, batch_size: int) -> list[Path]:
        """Generate the samples, a batch at a time, and write the files.

        Args:
            model: a `kit.prediction.Predictor`.
            batch_size: the number of samples in a batch of the net.
        """
        size = size_of_samples(model.preprocessing)
        sampler = model.task.make_sampler(self.guidance, model.task.solver.replace(self.solver, self.steps, self.churn))
        classes_in_turn = torch.tensor(self.classes or range(len(self.class_names)))
        folder, grid_file = self.folder / "samples", self.folder / "grid.png"
        for old_sample in folder.glob("[0-9][0-9][0-9][0-9][0-9]*_*.png"):
            old_sample.unlink()
        in_grid: list[Tensor] = []
        for indices in torch.arange(self.num_samples).split(batch_size):
            classes = classes_in_turn[indices % len(classes_in_turn)]
            seeds = [(self.seed * STRIDE + index) % 2**63 for index in indices.tolist()]
            images = model.task.sample(classes, seeds, size, batch_size, sampler)
            for index, k, image in zip(indices.tolist(), classes.tolist(), images, strict=True):
                name = re.sub(r"[^\w.-]", "_", self.class_names[k])
                save_picture(image, folder / f"{index:05}_{name}.png")
            in_grid += images[: max(0, MAX_IN_GRID - len(in_grid))]
        save_picture(image_grid(torch.stack(in_grid), columns(len(in_grid), len(classes_in_turn))), grid_file)
        return [grid_file, folder]


def columns(num_images: int, num_classes: int) -> int:
    """Return the number of columns of a grid: about the square root of the number of images, up to `MAX_COLUMNS`.

    For at most `MAX_COLUMNS` classes, it is a multiple of their number, so that each column shows one class.
    """
    square = min(math.ceil(math.sqrt(num_images)), MAX_COLUMNS)
    return max(1, square // num_classes) * num_classes if num_classes <= MAX_COLUMNS else square


def size_of_samples(preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the height and width of samples: the size of the training images.

    Raises:
        UserError: the training images had several sizes.
    """
    if preprocessing.size is None:
        raise UserError("the training images had several sizes, so the size of samples is unknown")
    return preprocessing.size


def _class_indices(text: str, class_names: Sequence[str]) -> list[int]:
    """Return the index of each class in a text of names separated by commas. A name may contain commas itself.

    Raises:
        UserError: see `_class_index`.
    """
    indices, parts = list[int](), text.split(",")
    while parts:
        names = [",".join(parts[:end]).strip() for end in range(1, len(parts) + 1)]
        end = max((end for end, name in enumerate(names, 1) if name in class_names), default=1)
        indices.append(_class_index(names[end - 1], class_names))
        parts = parts[end:]
    return indices


def _class_index(name: str, class_names: Sequence[str]) -> int:
    """Return the index of the class with this name or, if there is none, of the class whose first word is this name.

    For example, `3` finds the class `3 - three` of MNIST.

    Raises:
        UserError: there is no such class, or there are several.
    """
    exact = [k for k, class_name in enumerate(class_names) if class_name == name]
    matches = exact or [k for k, class_name in enumerate(class_names) if class_name.split()[:1] == [name]]
    if len(matches) > 1:
        raise UserError(f"--classes: '{name}' fits several classes; give the whole name of one")
    if not matches:
        listed = ", ".join(class_names[:MAX_LISTED])
        raise UserError(f"--classes: the model has no class '{name}'{did_you_mean(name, class_names)}; it has {listed}")
    return matches[0]


class PaintingFiles:
    """Write `pictures/NAME.jpg` for each image: the image painted in the style, of the same size.

    Args:
        folder: the folder of the results.
        class_names: unused.
    """

    FOLDERS = ("pictures",)

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        self.pictures = folder / "pictures"

    def write_files(self, file: Path, name: str, prediction: Tensor) -> None:
        save_picture(prediction[:3], self.pictures / f"{name}.jpg", quality=95)

    def add(self, file: Path, name: str, prediction: Tensor) -> None:
        """Do nothing, since each image has a file of its own."""

    def finish(self) -> list[Path]:
        return [self.pictures]


class ExportedImages(ExportedModule):
    """A module whose output is images, uint8 [B H W C]. An exported file's pixels may differ from PyTorch's by 1."""

    difference_name = "largest difference of a pixel (0 to 255)"
    tolerance = 1

    def difference(self, outputs: Mapping[str, Tensor], predicted: Tensor) -> float:
        """Return the largest difference between an output [H W C] and a prediction [C H W]; inf if sizes differ."""
        (image,) = outputs.values()
        predicted = predicted.permute(1, 2, 0)
        if image.shape != predicted.shape:
            return float("inf")
        return float((image.int() - predicted.int()).abs().max())


class ExportedGenerator(ExportedImages):
    """Map `noise`, standard normal Float[B N C H W], and `classes`, Long[B], to `images`, uint8 [B H W C].

    Class K means that no class is given. An exported file contains all steps from noise to images.

    Args:
        sampler: maps noise and classes to images from -1 to 1, Float[B C H W].
        num_classes: the number of classes, K.
        num_noises: N, the number of noise images from which one sample is generated: the noise that becomes the sample
            and, with churn, one for each step but the first.
    """

    task = "generation"
    inputs: ClassVar = {"noise": {0: "batch"}, "classes": {0: "batch"}}
    outputs: ClassVar = {"images": {0: "batch"}}

    def __init__(self, sampler: nn.Module, num_classes: int, num_noises: int) -> None:
        super().__init__(sampler)
        self.num_classes, self.num_noises = num_classes, num_noises

    def forward(self, noise: Tensor, classes: Tensor) -> tuple[Tensor]:
        return (to_uint8(self.net(noise, classes).float()).permute(0, 2, 3, 1),)

    def example(self, preprocessing: Preprocessing, count: int) -> tuple[Tensor, Tensor]:
        shape = (self.num_noises, preprocessing.channels, *size_of_samples(preprocessing))
        return noise(range(count), shape), torch.arange(count) % self.num_classes

    def expected(self, task: Any, noise: Tensor, classes: Tensor) -> Tensor:
        return task.make_sampler().images(noise, classes, task.device)[0]


class ExportedStylizer(ExportedImages):
    """Map images, Float[B C H W], to `pictures`, uint8 [B H W C]: the images painted in the style, of the same size."""

    task = "style"
    outputs: ClassVar = {"pictures": {0: "batch", 1: "height", 2: "width"}}

    def forward(self, images: Tensor, size: tuple[Any, Any], unpadded_size: tuple[Any, Any]) -> tuple[Tensor]:
        return (to_uint8(self.net(images).float()).permute(0, 2, 3, 1),)
