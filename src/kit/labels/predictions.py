"""Define the prediction of a classifier for an image, and write, draw and export predictions."""

import csv
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from torch import Tensor, nn

from kit.ground.drawing import GREEN, GREY, RED, WHITE, add_caption, to_rgb, zoom_factor, zoomed
from kit.ground.files import replacing
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


class MultiLabelClassification(NamedTuple):
    """The prediction for an image that may have several labels.

    labels: the labels whose probabilities are at least their thresholds, and the probability of each.
    probabilities: Float[K], the probabilities of all classes.
    """

    labels: dict[str, float]
    probabilities: Tensor


class PredictionTable:
    """Write `predictions.csv`, a table with a row for each image: see `kit.prediction.command.Predictions`.

    A subclass defines `add`.

    Args:
        folder: the folder of the table.
        columns: the names of the columns.
    """

    FOLDERS = ()  # no subfolders with a file for each image: see `Predictions`

    def __init__(self, folder: Path, columns: Sequence[str]) -> None:
        self.path, self.stack = folder / "predictions.csv", ExitStack()
        temporary = self.stack.enter_context(replacing(self.path))
        self.file = temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace")
        self.writer = csv.writer(self.file)
        self.writer.writerow(columns)

    def write_files(self, file: Path, name: str, prediction: Any) -> None:
        """Write no files: the table has all results."""

    def finish(self) -> list[Path]:
        self.file.close()
        self.stack.close()
        return [self.path]


class LabelPredictions(PredictionTable):
    """Write the columns `path,class,probability,class_2,probability_2,...`, with the most probable class first.

    Args:
        folder: the folder of the table.
        class_names: the names of the model's classes.
        top: the number of classes to list for each image.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], top: PositiveInt = 5) -> None:
        self.class_names, self.top = class_names, min(top, len(class_names))
        numbered = [f"{name}_{rank}" for rank in range(2, self.top + 1) for name in ("class", "probability")]
        super().__init__(folder, ["path", "class", "probability", *numbered])

    def add(self, file: Path, name: str, prediction: Classification) -> None:
        probabilities, classes = prediction.probabilities.topk(self.top)
        ranking = zip(classes.tolist(), probabilities.tolist(), strict=True)
        self.writer.writerow([file, *(cell for k, p in ranking for cell in (self.class_names[k], f"{p:.6f}"))])


class MultiLabelPredictions(PredictionTable):
    """Write the columns `path,label,probability`, with all predicted labels in one cell, such as `cat;dog`.

    `;` separates the labels within a cell. Training can read this file as a table of labels: see
    `kit.formats.label_table`.
    """

    def __init__(self, folder: Path, class_names: Sequence[str]) -> None:
        super().__init__(folder, ["path", "label", "probability"])

    def add(self, file: Path, name: str, prediction: MultiLabelClassification) -> None:
        probabilities = (f"{probability:.6f}" for probability in prediction.labels.values())
        self.writer.writerow([file, ";".join(prediction.labels), ";".join(probabilities)])


class ExportedClassifier(ExportedModule):
    """Convert images to `probabilities`, Float[B K].

    The probabilities of an exported file may differ from PyTorch's by 0.005.
    """

    task = "classification"
    outputs: ClassVar = {"probabilities": {0: "batch"}}
    difference_name = "largest difference of a probability"
    tolerance = 0.005

    def forward(self, images: Tensor, size: tuple[Any, Any], unpadded_size: tuple[Any, Any]) -> tuple[Tensor]:
        return (self.net(images).float().softmax(1),)

    def difference(self, outputs: Mapping[str, Tensor], predicted: Classification | MultiLabelClassification) -> float:
        return float((outputs["probabilities"] - predicted.probabilities).abs().max())


class ExportedMultiLabelClassifier(ExportedClassifier):
    """Convert images to `probabilities`, Float[B K]. Their thresholds, Float[K], are in the file's metadata."""

    task = "multi_label_classification"

    def __init__(self, net: nn.Module, thresholds: Sequence[float]) -> None:
        super().__init__(net)
        self.metadata = {"thresholds": list(thresholds)}

    def forward(self, images: Tensor, size: tuple[Any, Any], unpadded_size: tuple[Any, Any]) -> tuple[Tensor]:
        return (self.net(images).float().sigmoid(),)


def draw_several_labels(
    image: Tensor, class_names: Sequence[str], predicted: MultiLabelClassification | None = None, target: Any = None
) -> Tensor:
    """Draw an image, and below it its labels and the predicted labels with their probabilities.

    A predicted label is green if it is right, and red if it is wrong. A label that is missing in the prediction is red
    and has `not` before its name. Without a target, predicted labels are grey.

    Args:
        image: uint8 [C H W].
        class_names: the names of the model's classes.
        predicted: the prediction for the image, or None.
        target: Float[K] of 0 and 1, or None.

    Returns:
        uint8 [3 H' W'].
    """
    labels = [] if target is None else [class_names[k] for k in target.nonzero()[:, 0].tolist()]
    lines = [] if target is None else [(", ".join(labels) or "no label", WHITE)]
    if predicted is not None:
        for name, probability in zip(class_names, predicted.probabilities.tolist(), strict=True):
            if name in predicted.labels:
                ink = GREY if target is None else GREEN if name in labels else RED
                lines.append((f"{name} {probability:.2f}", ink))
            elif name in labels:
                lines.append((f"not {name} {probability:.2f}", RED))
    return add_caption(zoomed(to_rgb(image), zoom_factor(image)), lines)


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
