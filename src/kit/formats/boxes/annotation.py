"""The boxes of an image as a file describes them: what every format is read into."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kit.ground.faults import Fault, Severity

ROUNDING = 1e-3  # by which a share of the image may be below 0 or above 1
Box = tuple[float, float, float, float]


@dataclass
class Annotation:
    """The annotation of one image, unchanged.

    image: the image file.
    file: the file that faults of its boxes name: the text file of this image, or the image if a file is about all.
    size: height and width in the annotation, or None.
    relative: whether boxes are in shares of the image's width and height, instead of pixels.
    boxes: XYXY; `names`, `crowd` and `lines` (of the text file, from 1) have an entry for each box.
    """

    image: Path
    file: Path
    size: tuple[int, int] | None = None
    relative: bool = False
    boxes: list[Box] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)

    def add(self, box: Box, name: str, crowd: bool = False, line: int | None = None) -> None:
        self.boxes.append(box)
        self.names.append(name)
        self.crowd.append(crowd)
        self.lines.append(line)

    def without_boxes(self) -> "Annotation":
        return Annotation(self.image, self.file, self.size)

    def fault(self, kind: str, severity: Severity, line: int | None, message: str, box: Box | None = None) -> Fault:
        """Return a fault of this annotation. `box`, XYXY in pixels of the upright image, is shown in the image."""
        return Fault(kind, severity, str(self.file), line, message, image=str(self.image), box=box)


class Reading(NamedTuple):
    """The annotations of a split. class_names: the names that the format lists, or else those in the annotations."""

    annotations: list[Annotation]
    class_names: list[str]
    faults: list[Fault]


def missing_image(file: Path, line: int | None, name: str) -> Fault:
    return Fault("image-missing", "error", str(file), line, f"there is no image {name}; add it, or remove its boxes")


def missing_annotation(image: Path, consequence: str) -> Fault:
    return Fault("annotation-missing", "warning", str(image), None, f"nothing is annotated; {consequence}")


def unreadable(file: Path, line: int | None, why: str) -> Fault:
    return Fault("annotation-unreadable", "error", str(file), line, why)


def drop_relative_boxes(annotations: list[Annotation], faults: list[Fault]) -> list[Annotation]:
    """Drop boxes in shares of the image, 0 to 1, where pixels are expected: of single images, or of all.

    Args:
        faults: a fault for each dropped box is added to this list.
    """
    all_relative = _are_relative([box for annotation in annotations for box in annotation.boxes])
    result = []
    for annotation in annotations:
        if all_relative or _are_relative(annotation.boxes):
            for box, name, line in zip(annotation.boxes, annotation.names, annotation.lines, strict=True):
                values = ", ".join(f"{value:.6g}" for value in box)
                message = f"box ({values}) of '{name}' looks like shares of the image, not pixels; left out"
                faults.append(annotation.fault("box-wrong-unit", "error", line, message))
            annotation = annotation.without_boxes()
        result.append(annotation)
    return result


def _are_relative(boxes: Sequence[Box]) -> bool:
    """Return whether boxes look like shares of the image. Whole numbers alone could be boxes of one pixel."""
    values = [value for box in boxes for value in box]
    within = all(-ROUNDING <= value <= 1 + ROUNDING for value in values)
    return within and not all(value.is_integer() for value in values)
