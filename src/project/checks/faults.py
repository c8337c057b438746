"""What a check finds: one fault, and how bad it is."""

from typing import Literal, NamedTuple


class Fault(NamedTuple):
    """Something that is wrong with the data.

    kind: a word or two with hyphens, as `box-out-of-bounds`; the README lists them.
    severity: an `error` spoils training or its figures, a `warning` may.
    file: where it is; empty where it is about all files.
    line: in a text file, from 1.
    message: what is wrong and what to do, in one sentence without the file's name.
    """

    kind: str
    severity: Literal["error", "warning"]
    file: str
    line: int | None
    message: str
