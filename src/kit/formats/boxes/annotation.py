"""Boxes as they are annotated: every format is read into `Annotation` and `Reading`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kit.formats.boxes.packed import Corners, Size
from kit.ground.faults import Fault, Severity

TOLERANCE = 1.0  # pixels by which a box may leave its image: programs round, and count from 0 or from 1


class Box(NamedTuple):
    """A box as it is annotated.

    corners: XYXY, in the annotation's unit (see `Annotation.relative`).
    name: the name of the box's class.
    crowd: whether the box is a region of many objects.
    line: the box's line in the text or XML file, from 1, if it is known.
    """

    corners: Corners
    name: str
    crowd: bool = False
    line: int | None = None


@dataclass(slots=True)
class Annotation:
    """The boxes of one image, as they are annotated.

    image: the image file.
    file: the file to name in faults: the image's text or XML file, or the image if its annotations are in JSON.
    size: the annotated height and width, or None.
    relative: True for boxes in shares of the image's width and height, False for boxes in pixels.
    faults: the faults of these boxes.
    """

    image: Path
    file: Path
    size: Size | None = None
    relative: bool = False
    boxes: list[Box] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def report(
        self, kind: str, message: str, line: int | None = None, severity: Severity = "error", box: Corners | None = None
    ) -> None:
        """Add a fault. `box` is drawn into the image: XYXY, in pixels of the image that EXIF has turned upright."""
        self.faults.append(Fault(kind, severity, str(self.file), line, message, image=str(self.image), box=box))


class Reading(NamedTuple):
    """The annotations of a split.

    class_names: the class names that the user gives or the files list, or those of the boxes in Pascal VOC's files.
    faults: the faults that do not belong to a single annotation.
    """

    annotations: list[Annotation]
    class_names: list[str]
    faults: list[Fault]


class BoxFormat(Protocol):
    """The base class of data sets with boxes, one for each format.

    sources: for each split that exists, the files that `read` needs, in any form; train first, if there is one.
    """

    sources: Mapping[str, Any]

    def read(self, split: str) -> Reading:
        """Read the annotations of a split.

        Raises:
            UserError: they cannot be read. Its message begins with the file's path.
        """

    def faults(self, readings: Iterable[Reading]) -> Iterable[Fault]:
        """Yield the faults that belong to no reading. readings: those of all splits that can be read."""
        return ()


def missing_image(file: Path, name: str) -> Fault:
    return Fault("image-missing", "error", str(file), None, f"there is no image {name}; add it, or remove its boxes")


def missing_annotation(image: Path, consequence: str) -> Fault:
    return Fault("annotation-missing", "warning", str(image), None, f"nothing is annotated; {consequence}")
