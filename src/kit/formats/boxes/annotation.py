"""What every format is read into."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kit.ground.faults import Fault, Severity

Box = tuple[float, float, float, float]


@dataclass
class Annotation:
    """What is written about one image.

    image: its file.
    file: where faults of its boxes are looked for: the text file, or the image where one text file is about all.
    size: height and width as written, or None.
    relative: boxes are in shares of the image's width and height, instead of pixels.
    boxes: XYXY as written; `names`, `crowd` and `lines` (of the text file, from 1) have an entry for each.
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

    def fault(self, kind: str, severity: Severity, line: int | None, message: str, box: Box | None = None) -> Fault:
        """One of it, to be shown in its image. box: XYXY in pixels of the upright image."""
        return Fault(kind, severity, str(self.file), line, message, image=str(self.image), box=box)


class Reading(NamedTuple):
    """A part of a data set, read. class_names: those that the format lists, or that were found."""

    annotations: list[Annotation]
    class_names: list[str]
    faults: list[Fault]


def missing_image(file: Path, line: int | None, wanted: str) -> Fault:
    return Fault("image-missing", "error", str(file), line, f"there is no image {wanted}; add it, or remove its boxes")


def missing_annotation(image: Path, consequence: str) -> Fault:
    return Fault("annotation-missing", "warning", str(image), None, f"nothing is annotated; {consequence}")


def unreadable(file: Path, line: int | None, why: str) -> Fault:
    return Fault("annotation-unreadable", "error", str(file), line, why)
