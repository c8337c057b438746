"""Samples as files: they are made of nothing but a class and a seed."""

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
from kit.samples import pictures

MOST_COLUMNS = 20
LISTED = 20  # class names that an error lists
STRIDE = 1_000_003  # between the seeds of two `seed`s
FARTHEST = 10**12  # of a `seed`: what is made of it has 64 bits


class Predictions:
    """`samples/00000_CLASS.png` and, of the first thousand, `grid.png`.

    Args:
        folder: where they are written.
        class_names: the model's.
        num_samples: how many.
        classes: names with commas between them, in turns; all by default.
        seed: another one makes other images; the same one the same, whatever the batch size.
        guidance: how much more of their class they are than learned; 1 leaves them as they are. By default the run's,
            as of all that follow.
        steps: how many lead from noise to image, at least 1.
        churn: by what share noise is raised before each step, with fresh noise; 0 for none.
        solver: what finds the way; a step of heun takes twice the time of one of euler.
    """

    def __init__(
        self,
        folder: Path,
        class_names: Sequence[str],
        num_samples: int = 100,
        classes: str | None = None,
        seed: int = 0,
        guidance: float | None = None,
        steps: int | None = None,
        churn: float | None = None,
        solver: Literal["euler", "heun"] | None = None,
    ) -> None:
        if num_samples < 1:
            raise UserError(f"num_samples is {num_samples}, but must be above 0")
        if not -FARTHEST < seed < FARTHEST:
            raise UserError(f"seed is {seed}, but must be a number of at most twelve digits")
        if guidance is not None and not math.isfinite(guidance):
            raise UserError(f"guidance is {guidance}, but must be a number, as 1 or 2")
        self.folder, self.class_names, self.num_samples, self.seed = folder, class_names, num_samples, seed
        self.guidance, self.steps, self.churn, self.solver = guidance, steps, churn, solver
        wanted = classes.split(",") if classes else class_names
        self.classes = [_class(name.strip(), class_names) for name in wanted]

    def make(self, model: Any, batch_size: int) -> list[Path]:
        """Writes the files, a batch at a time.

        Args:
            model: a `kit.prediction.Predictor`.
        """
        size = size_of_samples(model.preprocessing)
        solver = model.task.solver.changed(self.solver, self.steps, self.churn)
        self._remove_earlier()
        first, places = [], torch.arange(self.num_samples)
        for some in places.split(batch_size):
            classes = torch.tensor(self.classes)[some % len(self.classes)]
            seeds = (self.seed * STRIDE + some).tolist()
            images = model.task.sample(classes, seeds, size, batch_size, model.task.sampler(self.guidance, solver))
            for place, k, image in zip(some.tolist(), classes.tolist(), images, strict=True):
                self._save(image, self.folder / "samples" / f"{place:05}_{_in_a_name(self.class_names[k])}.png")
            first += list(images[: max(0, 1000 - int(some[0]))])
        self._save(pictures.grid(torch.stack(first), columns(len(first), len(self.classes))), self.folder / "grid.png")
        return [self.folder / "grid.png", self.folder / "samples"]

    def _remove_earlier(self) -> None:
        """Samples of an earlier call, which were taken for this one's."""
        for file in (self.folder / "samples").glob("*.png"):
            if re.match(r"\d{5,}_", file.name):
                file.unlink()

    def _save(self, image: Tensor, place: Path) -> None:
        with replacing(place) as part:
            to_pil_image(image).save(part, "PNG")


def columns(count: int, classes: int) -> int:
    """Of a grid that is about as high as wide: each has one class, if they are few enough."""
    wide = min(math.ceil(math.sqrt(count)), MOST_COLUMNS)
    return max(1, wide // classes) * classes if classes <= MOST_COLUMNS else wide


def size_of_samples(preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width: the training images'.

    Raises:
        UserError: they had several.
    """
    if preprocessing.size is None:
        raise UserError("the training images were of several sizes, so that no sample's is known")
    return preprocessing.size


def _class(name: str, class_names: Sequence[str]) -> int:
    """By a class's name, or its first word (`3` of MNIST's `3 - three`).

    Raises:
        UserError: there is none, or there are several.
    """
    if name in class_names:
        return list(class_names).index(name)
    begun = [place for place, known in enumerate(class_names) if known.split()[:1] == [name]]
    if len(begun) != 1:
        there = ", ".join(class_names[:LISTED]) + (", ..." if len(class_names) > LISTED else "")
        raise UserError(f"--classes: the model has no class '{name}'{did_you_mean(name, class_names)}; it has {there}")
    return begun[0]


def _in_a_name(word: str) -> str:
    """What may stand in a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in word)
