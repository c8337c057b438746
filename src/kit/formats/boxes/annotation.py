"""The boxes of an image as a file describes them: what every format is read into."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kit.ground.faults import Fault, Severity

TOLERANCE = 1.0  # pixels: formats count from 0 or from 1, and round
ROUNDING = 1e-3  # by which a share of the image may be below 0 or above 1
CLEARLY = 1.1  # sides of the image; a box that sticks out by less was drawn carelessly, and is clipped
Corners = tuple[float, float, float, float]  # XYXY


class Box(NamedTuple):
    """A box as it is annotated. line: its line in the text file, from 1."""

    corners: Corners
    name: str
    crowd: bool = False
    line: int | None = None


@dataclass
class Annotation:
    """The annotation of one image, unchanged.

    image: the image file.
    file: the file that faults of its boxes name: the text file of this image, or the image if a file is about all.
    size: height and width in the annotation, or None.
    relative: whether boxes are in shares of the image's width and height, instead of pixels.
    """

    image: Path
    file: Path
    size: tuple[int, int] | None = None
    relative: bool = False
    boxes: list[Box] = field(default_factory=list)

    def fault(
        self, kind: str, message: str, line: int | None = None, severity: Severity = "error", box: Corners | None = None
    ) -> Fault:
        """Return a fault of this annotation. `box`, XYXY in pixels of the upright image, is shown in the image."""
        return Fault(kind, severity, str(self.file), line, message, image=str(self.image), box=box)


class Reading(NamedTuple):
    """The annotations of a split. class_names: the names that the format lists, or else those in the annotations."""

    annotations: list[Annotation]
    class_names: list[str]
    faults: list[Fault]


def missing_image(file: Path, name: str) -> Fault:
    return Fault("image-missing", "error", str(file), None, f"there is no image {name}; add it, or remove its boxes")


def missing_annotation(image: Path, consequence: str) -> Fault:
    return Fault("annotation-missing", "warning", str(image), None, f"nothing is annotated; {consequence}")


def drop_wrong_units(
    annotations: Sequence[Annotation], is_wrong: Callable[[Sequence[Annotation]], bool], unit: str
) -> list[Fault]:
    """Drop boxes in a wrong unit: those of all images if all together look so, else those of single images.

    Args:
        is_wrong: returns whether the boxes of some images look as if they were in this unit.
        unit: the unit, for messages.

    Returns:
        a fault for each dropped box
    """
    faults = []
    are_all_wrong = is_wrong(annotations)
    for annotation in annotations:
        if are_all_wrong or is_wrong([annotation]):
            for box in annotation.boxes:
                message = (
                    f"box ({', '.join(f'{value:.6g}' for value in box.corners)}) of '{box.name}' looks like {unit}"
                )
                faults.append(annotation.fault("box-wrong-unit", f"{message}; left out", box.line))
            annotation.boxes = []
    return faults


def are_shares(annotations: Sequence[Annotation]) -> bool:
    """Return whether boxes look like shares of the image. Whole numbers alone could be boxes of one pixel."""
    values = [value for annotation in annotations for box in annotation.boxes for value in box.corners]
    within = all(-ROUNDING <= value <= 1 + ROUNDING for value in values)
    return within and not all(value.is_integer() for value in values)


def are_two_corners(annotations: Sequence[Annotation]) -> bool:
    """Return whether boxes that were read as a corner and a size look like two corners.

    As two corners, all of them are within the image; as corner and size, at least half and more than one clearly stick
    out of it.
    """
    count = outside = 0
    for annotation in annotations:
        for (x, y, right, bottom), *_ in annotation.boxes if annotation.size else ():
            height, width = annotation.size
            if not (x < right - x <= width + TOLERANCE and y < bottom - y <= height + TOLERANCE):
                return False
            count += 1
            outside += right > width * CLEARLY or bottom > height * CLEARLY
    return outside > 1 and 2 * outside >= count
