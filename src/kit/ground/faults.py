"""Faults: problems in the data. The command `check` reports them."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """A problem in the data.

    kind: a name with hyphens, such as `box-out-of-bounds`; docs/check.md lists all kinds.
    severity: `error` if training or its metrics will be wrong, `warning` if they may be.
    file: the file with the problem, or "" if the problem concerns all files.
    line: the number of the line in a text file, from 1, or None.
    message: the problem and its remedy, without the file's name.
    other: a second image to show in the report, such as a duplicate, or "".
    image: the image to show in the report, or "" to show `file`.
    box: a box to draw into the image, or None: XYXY, in pixels of the image after its EXIF orientation is applied.
    """

    kind: str
    severity: Severity
    file: str
    line: int | None
    message: str
    other: str = ""
    image: str = ""
    box: tuple[float, float, float, float] | None = None


# All kinds of faults, by their usual severity. docs/check.md explains them.
ERRORS = (
    *("image-missing", "empty", "not-an-image", "unreadable", "leak", "near-leak", "label-conflict"),
    *("group-straddles", "class-spelled-twice", "class-empty", "class-unknown", "unusable"),
    *("annotation-unreadable", "bad-row", "no-label", "no-group", "unknown-split", "box-wrong-unit", "size-mismatch"),
    *("mask-missing", "mask-size-mismatch", "mask-id-unknown", "mask-colour-unknown", "mask-palette"),
    "mask-wrong-unit",
)
WARNINGS = (
    *("wrong-extension", "several-frames", "sixteen-bit", "alpha", "cmyk", "mixed-colour", "odd-size"),
    *("odd-aspect", "duplicate", "near-duplicate", "constant", "low-information", "dark", "bright", "blurred"),
    *("class-missing", "class-rare", "class-joined", "crowd", "annotation-missing", "ignored-file"),
    *("box-without-area", "box-corners-swapped", "box-duplicated", "box-out-of-bounds", "exif-rotated-boxes"),
    *("mask-all-ignored", "mask-empty", "mask-out-of-bounds", "exif-rotated-mask"),
)
KINDS: dict[str, Severity] = {**dict.fromkeys(ERRORS, "error"), **dict.fromkeys(WARNINGS, "warning")}


def fault(
    kind: str, file: object, message: str, line: int | None = None, severity: Severity | None = None, other: object = ""
) -> Fault:
    """Return a fault. By default, `KINDS` gives the severity. `file` and `other` are converted to text."""
    return Fault(kind, severity or KINDS[kind], str(file), line, message, str(other))
