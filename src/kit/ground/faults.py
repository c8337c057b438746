"""Faults: problems in the data. The command `check` reports them."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """A problem in the data.

    kind: a name with hyphens, such as `box-out-of-bounds`; docs/check.md lists all kinds.
    severity: `error` if training or its metrics will be wrong, `warning` if they may be.
    file: the file with the problem, or "" if the problem concerns all files.
    line: the line in a text file, from 1.
    message: the problem and its remedy, without the file's name.
    other: a second image to show in the report, such as a duplicate, or "".
    image: the image to show in the report, or "" to show `file`.
    box: a box to draw into the image: XYXY, in pixels of the image that EXIF has turned upright.
    """

    kind: str
    severity: Severity
    file: str
    line: int | None
    message: str
    other: str = ""
    image: str = ""
    box: tuple[float, float, float, float] | None = None


# The kinds of faults that the data of any task may have. Data modules have more kinds, for their annotations.
ERRORS = (
    *("image-missing", "empty", "not-an-image", "unreadable", "leak", "near-leak", "label-conflict"),
    *("group-straddles", "class-spelled-twice", "unusable"),
)
WARNINGS = (
    *("wrong-extension", "several-frames", "sixteen-bit", "alpha", "cmyk", "mixed-colour", "odd-size"),
    *("odd-aspect", "duplicate", "near-duplicate", "constant", "low-information", "dark", "bright", "blurred"),
    *("class-missing", "class-rare", "class-joined", "crowd"),
)
KINDS: dict[str, Severity] = {**dict.fromkeys(ERRORS, "error"), **dict.fromkeys(WARNINGS, "warning")}


def fault(kind: str, file: object, message: str, other: object = "") -> Fault:
    """Return a fault with the severity that `KINDS` has for its kind. `file` and `other` are converted to text."""
    return Fault(kind, KINDS[kind], str(file), None, message, str(other))
