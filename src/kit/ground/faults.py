"""What a check finds: one fault, and how bad it is."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning"]


class Fault(NamedTuple):
    """Something that is wrong with the data.

    kind: a word or two with hyphens, as `box-out-of-bounds`; the README lists them.
    severity: an `error` spoils training or its figures, a `warning` may.
    file: where it is; empty where it is about all files.
    line: in a text file, from 1.
    message: what is wrong and what to do, in one sentence without the file's name.
    other: the image that it is compared with, to be shown beside it.
    image: the one to be shown, where it is not `file`.
    box: XYXY in pixels of the upright image, to be drawn into it.
    """

    kind: str
    severity: Severity
    file: str
    line: int | None
    message: str
    other: str = ""
    image: str = ""
    box: tuple[float, float, float, float] | None = None


# What this folder, which knows no task, can find; the data modules add what their annotations can get wrong.
KINDS: dict[str, Severity] = {
    "image-missing": "error",
    "empty": "error",
    "not-an-image": "error",
    "unreadable": "error",
    "leak": "error",
    "near-leak": "error",
    "label-conflict": "error",
    "group-straddles": "error",
    "class-spelled-twice": "error",
    "unusable": "error",
    "wrong-extension": "warning",
    "cut-off": "warning",
    "several-frames": "warning",
    "sixteen-bit": "warning",
    "alpha": "warning",
    "cmyk": "warning",
    "mixed-colour": "warning",
    "odd-size": "warning",
    "odd-aspect": "warning",
    "duplicate": "warning",
    "near-duplicate": "warning",
    "constant": "warning",
    "low-information": "warning",
    "dark": "warning",
    "bright": "warning",
    "blurred": "warning",
    "class-missing": "warning",
    "class-rare": "warning",
    "class-joined": "warning",
    "crowd": "warning",
    "memory": "warning",
}


def fault(kind: str, file: object, message: str, other: object = "") -> Fault:
    """One of `KINDS`."""
    return Fault(kind, KINDS[kind], str(file), None, message, str(other))
