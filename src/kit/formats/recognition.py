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
        options: the names of these options.
    """

    def __init__(self, options: Collection[str], message: str = "") -> None:
        super().__init__(message)
        self.options = options


class Evidence(NamedTuple):
    """The files that may be in a format.

    files: all files that have the right name and place.
    noun: the word for one of the files, in messages.
    has_format: returns whether the content of a file is in the format. It may read only a part of the file.
    """

    files: Sequence[Path]
    noun: str
    has_format: Callable[[Path], bool]

    def is_confirmed(self) -> bool:
        """Read up to `SAMPLED_FILES` of the files, and return whether any of them has the right content."""
        return any(map(self.has_format, evenly_spaced_part(self.files, SAMPLED_FILES)))


def possible_formats(evidence: Mapping[str, Evidence]) -> dict[str, str]:
    """Return the formats that the data may have, each with a description of its files, such as `3 XML files`.

    These are the formats whose evidence is confirmed by the content of a file. If there are none, for example because
    all files are broken, they are the formats with any files: reading these raises a helpful error.
    """
    with_files = {name: item for name, item in evidence.items() if item.files}
    possible = {name: item for name, item in with_files.items() if item.is_confirmed()} or with_files
    return {name: f"{len(item.files):,} {item.noun}{'s' * (len(item.files) != 1)}" for name, item in possible.items()}


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
            problem = f"data.{name} belongs to {' and '.join(formats)}, but the data are in the format {format}"
            raise OtherOptions([name], f"{problem}; remove it from the command line and the config")


def choose_format(root: Path, formats: Mapping[str, str], expected: str) -> str:
    """Return the format of a data set if it is the only possible one.

    Args:
        root: the folder of the data set.
        formats: the result of `possible_formats`.
        expected: a description of the folder's right content, for the error message if no format is possible.

    Raises:
        UserError: no format is possible, or several are.
    """
    if not formats:
        listed = ", ".join(f"{folder.name}/ ({len(images(folder))} images)" for folder in folders(root)) or "no folders"
        raise UserError(f"{root}: format not recognised; it holds {listed}; expected {expected}; or give --data.format")
    if len(formats) > 1:
        listed = " and ".join(f"{files} ({name})" for name, files in formats.items())
        choices = " or ".join(f"--data.format {name}" for name in formats)
        raise UserError(f"{root} holds {listed}: which should be used? Give {choices}")
    return next(iter(formats))
