"""Faults: the problems in the data that the command `check` reports."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """A problem in the data.

    kind: a name with hyphens, such as `box-out-of-bounds`; docs/check.md lists all kinds.
    severity: `error` if training or its metrics will be wrong, `warning` if they may be.
    file: the file with the problem, or "" if the problem concerns all files.
    line: the line in a text file, from 1.
    message: a sentence with the problem and its remedy, without the file's name.
    other: a second image that the report shows beside the first, or "".
    image: the image that the report shows, or "" to show `file`.
    box: a box to draw into the image, XYXY in pixels, after the image's EXIF rotation.
    """

    kind: str
    severity: Severity
    file: str
    line: int | None
    message: str
    other: str = ""
    image: str = ""
    box: tuple[float, float, float, float] | None = None


# The kinds of faults that any task can have. The data modules add kinds for their annotations.
ERRORS = (
    *("image-missing", "empty", "not-an-image", "unreadable", "leak", "near-leak", "label-conflict"),
    *("group-straddles", "class-spelled-twice", "unusable"),
)
WARNINGS = (
    *("wrong-extension", "cut-off", "several-frames", "sixteen-bit", "alpha", "cmyk", "mixed-colour", "odd-size"),
    *("odd-aspect", "duplicate", "near-duplicate", "constant", "low-information", "dark", "bright", "blurred"),
    *("class-missing", "class-rare", "class-joined", "crowd"),
)
KINDS: dict[str, Severity] = {**dict.fromkeys(ERRORS, "error"), **dict.fromkeys(WARNINGS, "warning")}


def fault(kind: str, file: object, message: str, other: object = "") -> Fault:
    """Return a fault of a kind in `KINDS`, with the severity of this kind."""
    return Fault(kind, KINDS[kind], str(file), None, message, str(other))
