"""A table of what is seen in images."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from kit.ground.errors import UserError


class Classified(NamedTuple):
    """
    label: the likeliest class's name.
    probability: of that class.
    probabilities: Float[K], of all classes.
    """

    label: str
    probability: float
    probabilities: Tensor


class Predictions:
    """`predictions.csv`: `path,class,probability,class_2,probability_2,...`, the likeliest first.

    Args:
        folder: where it is written.
        class_names: the model's.
        top: how many classes of each image.

    Raises:
        UserError: `top` is none.
    """

    FOLDERS = ()

    def __init__(self, folder: Path, class_names: Sequence[str], top: int = 5) -> None:
        if top < 1:
            raise UserError(f"top is {top}, but must be above 0")
        self.class_names, self.top = class_names, min(top, len(class_names))
        self.table = folder / "predictions.csv"
        self.part = folder / "predictions.csv.part"
        self.lines = self.part.open("w", newline="", encoding="utf-8", errors="backslashreplace")
        self.writer = csv.writer(self.lines)
        numbered = [f"{name}_{place}" for place in range(2, self.top + 1) for name in ("class", "probability")]
        self.writer.writerow(["path", "class", "probability", *numbered])

    def picture(self, file: Path, name: str, found: Classified) -> None:
        """None."""

    def add(self, file: Path, name: str, found: Classified) -> None:
        values, classes = found.probabilities.topk(self.top)
        ranked = zip(classes.tolist(), values.tolist(), strict=True)
        self.writer.writerow([file, *(cell for k, p in ranked for cell in (self.class_names[k], f"{p:.6f}"))])

    def finish(self) -> list[Path]:
        self.lines.close()
        self.part.replace(self.table)
        return [self.table]
