"""The prediction of a classifier for an image, and how predictions are written, drawn and exported."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from kit.ground.drawing import GREEN, GREY, RED, WHITE, add_caption, to_rgb, zoom_factor, zoomed
from kit.ground.ranges import PositiveInt
from kit.task import ExportedModule


class Classification(NamedTuple):
    """The prediction for an image.

    label: the name of the most probable class.
    probability: the probability of that class.
    probabilities: Float[K], the probabilities of all classes.
    """

    label: str
    probability: float
    probabilities: Tensor


class LabelPredictions:
    """Write `predictions.csv`: `path,class,probability,class_2,probability_2,...`, the most probable class first.

    Args:
        folder: the folder of the file.
        class_names: the names of the model's classes.
        top: the number of classes to list for each image.
    """

    FOLDERS = ()

    def __init__(self, folder: Path, class_names: Sequence[str], top: PositiveInt = 5) -> None:
        self.class_names, self.top = class_names, min(top, len(class_names))
        self.table, self.part = folder / "predictions.csv", folder / "predictions.csv.part"
        self.lines = self.part.open("w", newline="", encoding="utf-8", errors="backslashreplace")
        self.writer = csv.writer(self.lines)
        numbered = [f"{name}_{rank}" for rank in range(2, self.top + 1) for name in ("class", "probability")]
        self.writer.writerow(["path", "class", "probability", *numbered])

    def picture(self, file: Path, name: str, prediction: Classification) -> None:
        """Do nothing: the table has all results."""

    def add(self, file: Path, name: str, prediction: Classification) -> None:
        values, classes = prediction.probabilities.topk(self.top)
        ranked = zip(classes.tolist(), values.tolist(), strict=True)
        self.writer.writerow([file, *(cell for k, p in ranked for cell in (self.class_names[k], f"{p:.6f}"))])

    def finish(self) -> list[Path]:
        self.lines.close()
        self.part.replace(self.table)
        return [self.table]


class ExportedClassifier(ExportedModule):
    """Convert images to `probabilities`, Float[B K]. An exported file's may differ from PyTorch's by 0.005."""

    task = "classification"
    outputs: ClassVar = {"probabilities": {0: "batch"}}
    measured = "largest difference of a probability"
    tolerance = 0.005

    def forward(self, images: Tensor, size: tuple[Any, Any], content_size: tuple[Any, Any]) -> tuple[Tensor]:
        return (self.net(images).float().softmax(1),)

    def difference(self, outputs: Mapping[str, Tensor], predicted: Classification) -> float:
        return float((outputs["probabilities"] - predicted.probabilities).abs().max())


def draw_labels(
    image: Tensor, class_names: Sequence[str], predicted: Classification | None = None, target: Any = None
) -> Tensor:
    """Draw an image above its class and the predicted class, which is green if it is right and red if it is wrong.

    Args:
        image: uint8 [C H W].
        target: a class number or, for a mixed image, the share of each class, Float[K].

    Returns:
        uint8 [3 H' W'].
    """
    name = None if target is None else _name_of(target, class_names)
    lines = [] if name is None else [(name, WHITE)]
    if predicted is not None:
        ink = GREY if name is None else GREEN if predicted.label == name else RED
        lines.append((f"{predicted.label} {predicted.probability:.2f}", ink))
    return add_caption(zoomed(to_rgb(image), zoom_factor(image)), lines)


def _name_of(target: Any, class_names: Sequence[str]) -> str:
    if not isinstance(target, Tensor) or not target.ndim:
        return class_names[int(target)]
    shares, classes = target.float().sort(descending=True)
    parts = zip(shares.tolist(), classes.tolist(), strict=True)
    return " + ".join(f"{class_names[k]} {share:.2f}" for share, k in parts if share >= 0.005)
