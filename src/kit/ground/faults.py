"""The faults that the verb `check` reports: problems in the data, each with a kind and a severity."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """A problem in the data.

    kind: a name with hyphens, such as `box-out-of-bounds`; docs/check.md lists all kinds.
    severity: an `error` makes training or its metrics wrong; a `warning` may do so.
    file: the file with the problem; empty if the problem concerns all files.
    line: the line in a text file, from 1.
    message: one sentence that says what is wrong and what to do, without the file's name.
    other: a second image, which the report shows beside the first.
    image: the image to show if it is not `file`.
    box: a box to draw into the image, XYXY in pixels of the upright image.
    """

    kind: str
    severity: Severity
    file: str
    line: int | None
    message: str
    other: str = ""
    image: str = ""
    box: tuple[float, float, float, float] | None = None


# Kinds of faults that do not depend on the task. The data modules add kinds for their annotations.
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
    """Return a fault of one of `KINDS`, with the severity that is set there."""
    return Fault(kind, KINDS[kind], str(file), None, message, str(other))
