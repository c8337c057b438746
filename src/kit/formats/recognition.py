"""Recognise the format of a data set by its files."""

from collections.abc import Mapping
from pathlib import Path

from kit.ground.errors import UserError


def choose_format(root: Path, found: Mapping[str, str], format: str | None, expected: str) -> str:
    """Return the format of a data set: `format` if the user gave one, else the only one that was found.

    Args:
        root: the folder of the data set.
        found: for each format of which there are files, what was found, such as `3 XML files`.
        format: the format that the user gave, or None.
        expected: what the folder should hold, for the error if nothing was found.

    Raises:
        UserError: nothing was found, or several formats were found and the user gave none.
    """
    if format is not None:
        return format
    if not found:
        raise UserError(f"{root}: no data found; expected {expected}")
    if len(found) > 1:
        kinds = " and ".join(f"{what} (--data.format {name})" for name, what in found.items())
        raise UserError(f"{root} has {kinds}; give one of these options")
    return next(iter(found))
