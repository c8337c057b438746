"""Recognise the format of a data set by the content of its files, and refuse options of other formats."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kit.data.samples import evenly_spaced_part
from kit.formats.folders import folders, images
from kit.ground.errors import UserError

SAMPLED_FILES = 20  # the largest number of files, evenly spaced, whose content is read


class OtherOptions(UserError):
    """Options were given that do not apply to the data.

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
    """Return the formats that are found, each with a description of its files, such as `3 XML files`.

    A format is found if one of a sample of its files has the right content. If this holds for no format, for example
    because all files are broken, each format with files is found: reading the files then raises a helpful error.
    """
    present = {name: one for name, one in evidence.items() if one.files}
    sure = {name: one for name, one in present.items() if one.is_sure()}
    counts = {name: (len(one.files), one.noun) for name, one in (sure or present).items()}
    return {name: f"{count:,} {noun}{'s' * (count != 1)}" for name, (count, noun) in counts.items()}


def refuse_other_options(format: str, options: Mapping[tuple[str, ...], Mapping[str, Any]]) -> None:
    """Raise an error for an option of another format than `format`.

    Args:
        options: a dict from formats to the options that belong only to these formats. The value of an option is None if
            the user has not given it.

    Raises:
        OtherOptions: there is such an option.
    """
    for formats, values in options.items():
        for name in [name for name in values if values[name] is not None and format not in formats]:
            belongs = f"data.{name} belongs to {' and '.join(formats)}, but the data are in the format {format}"
            raise OtherOptions([name], f"{belongs}; leave it out (--data.{name} null)")


def choose_format(root: Path, formats: Mapping[str, str], expected: str) -> str:
    """Return the only format of a data set that was found.

    Args:
        root: the folder of the data set.
        formats: the formats that were found, each with a description of its files, such as `3 XML files`.
        expected: what the folder should hold, for the error if nothing was found.

    Raises:
        UserError: nothing was found, or several formats were found.
    """
    if not formats:
        inner = ", ".join(f"{folder.name}/ ({len(images(folder))} images)" for folder in folders(root)) or "no folders"
        problem = f"the format of the data is not recognised; the folder holds {inner}"
        raise UserError(f"{root}: {problem}; expected {expected}; or give the format with --data.format")
    if len(formats) > 1:
        listed = " and ".join(f"{files} ({name})" for name, files in formats.items())
        choices = " or ".join(f"--data.format {name}" for name in formats)
        raise UserError(f"{root} holds {listed}: which should be used? Give {choices}")
    return next(iter(formats))
