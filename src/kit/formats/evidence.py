"""Decide which formats the files of a data set are in, by their content, and refuse options of other formats."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kit.data.samples import evenly_spaced_part
from kit.ground.errors import UserError

SAMPLED_FILES = 20  # the largest number of files, evenly spaced, whose content is looked at


class OtherOptions(UserError):
    """Options do not describe the data.

    Args:
        options: their names.
    """

    def __init__(self, options: Collection[str], message: str = "") -> None:
        super().__init__(message)
        self.options = options


class Evidence(NamedTuple):
    """The files that may be in a format.

    files: all files that have the right name and place.
    noun: the word for one of them, in messages.
    has_format: returns whether the content of a file is in the format. It may read a part of the file.
    """

    files: Sequence[Path | str]
    noun: str
    has_format: Callable[[Path], bool]

    def is_sure(self) -> bool:
        """Return whether one of a sample of the files has the right content."""
        return any(map(self.has_format, map(Path, evenly_spaced_part(self.files, SAMPLED_FILES))))


def found_formats(evidence: Mapping[str, Evidence]) -> dict[str, str]:
    """Return what was found of each format, such as `3 XML files`.

    A format counts if one of a sample of its files has the right content. If there is no such format, as when all files
    are broken, those that have files count: reading these files gives an error that says what is wrong.
    """
    present = {name: one for name, one in evidence.items() if one.files}
    sure = {name: one for name, one in present.items() if one.is_sure()}
    counts = {name: (len(one.files), one.noun) for name, one in (sure or present).items()}
    return {name: f"{count:,} {noun}{'s' * (count != 1)}" for name, (count, noun) in counts.items()}


def refuse_other_options(format: str, options: Mapping[str, tuple[Any, Sequence[str]]]) -> None:
    """Raise an error for an option of another format than `format`.

    Args:
        options: for each option of the data module, its value, or None if it was not given, and the formats that it
            belongs to.

    Raises:
        OtherOptions: there is such an option.
    """
    for name, (value, formats) in options.items():
        if value is not None and format not in formats:
            belongs = f"data.{name} belongs to {' and '.join(formats)}, but the data are in the format {format}"
            raise OtherOptions([name], f"{belongs}; leave it out (--data.{name} null)")
