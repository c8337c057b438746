"""Define the prediction of a classifier for an image, and write, draw and export predictions."""

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
    """Write `predictions.csv`, a table with a row for each image: see `kit.prediction.command.Predictions`.

    The columns are `path,class,probability,class_2,probability_2,...`, with the most probable class first.

    Args:
        folder: the folder of the table.
        class_names: the names of the model's classes.
        top: the number of classes to list for each image.
    """

    FOLDERS = ()  # no image has files of its own

    def __init__(self, folder: Path, class_names: Sequence[str], top: PositiveInt = 5) -> None:
        self.class_names, self.top = class_names, min(top, len(class_names))
        self.path, self.part = folder / "predictions.csv", folder / "predictions.csv.part"
        self.file = self.part.open("w", newline="", encoding="utf-8", errors="backslashreplace")
        self.writer = csv.writer(self.file)
        numbered = [f"{name}_{rank}" for rank in range(2, self.top + 1) for name in ("class", "probability")]
        self.writer.writerow(["path", "class", "probability", *numbered])

    def write_files(self, file: Path, name: str, prediction: Classification) -> None:
        """Write no files: the table has all results."""

    def add(self, file: Path, name: str, prediction: Classification) -> None:
        probabilities, classes = prediction.probabilities.topk(self.top)
        ranked = zip(classes.tolist(), probabilities.tolist(), strict=True)
        self.writer.writerow([file, *(cell for k, p in ranked for cell in (self.class_names[k], f"{p:.6f}"))])

    def finish(self) -> list[Path]:
        self.file.close()
        self.part.replace(self.path)
        return [self.path]


class ExportedClassifier(ExportedModule):
    """Convert images to `probabilities`, Float[B K], which may differ by 0.005 between an exported file and PyTorch."""

    task = "classification"
    outputs: ClassVar = {"probabilities": {0: "batch"}}
    difference_name = "largest difference of a probability"
    tolerance = 0.005

    def forward(self, images: Tensor, size: tuple[Any, Any], content_size: tuple[Any, Any]) -> tuple[Tensor]:
        return (self.net(images).float().softmax(1),)

    def difference(self, outputs: Mapping[str, Tensor], predicted: Classification) -> float:
        return float((outputs["probabilities"] - predicted.probabilities).abs().max())


def draw_labels(
    image: Tensor, class_names: Sequence[str], predicted: Classification | None = None, target: Any = None
) -> Tensor:
    """Draw an image, and below it the name of its class and the predicted class with its probability.

    The predicted class is green if it is right, red if it is wrong, and grey if there is no target.

    Args:
        image: uint8 [C H W].
        class_names: the names of the model's classes.
        predicted: the prediction for the image, or None.
        target: a class number, or None.

    Returns:
        uint8 [3 H' W'].
    """
    lines = [] if target is None else [(class_names[int(target)], WHITE)]
    if predicted is not None:
        ink = GREY if target is None else GREEN if predicted.label == class_names[int(target)] else RED
        lines.append((f"{predicted.label} {predicted.probability:.2f}", ink))
    return add_caption(zoomed(to_rgb(image), zoom_factor(image)), lines)
