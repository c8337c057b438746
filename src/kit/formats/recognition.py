"""Choose the format of a data set by the files in its folder."""

from collections.abc import Mapping
from pathlib import Path

from kit.formats.folders import folders, images
from kit.ground.errors import UserError


def choose_format(root: Path, found: Mapping[str, str], expected: str) -> str:
    """Return the only format of a data set that was found.

    Args:
        root: the folder of the data set.
        found: for each format of which there are files, what was found, such as `3 XML files`.
        expected: what the folder should hold, for the error if nothing was found.

    Raises:
        UserError: nothing was found, or several formats were found.
    """
    if not found:
        inner = ", ".join(f"{folder.name}/ ({len(images(folder))} images)" for folder in folders(root)) or "no folders"
        problem = f"the format of the data is not recognised; the folder holds {inner}"
        raise UserError(f"{root}: {problem}; expected {expected}; or give the format with --data.format")
    if len(found) > 1:
        listed = " and ".join(f"{files} ({name})" for name, files in found.items())
        choices = " or ".join(f"--data.format {name}" for name in found)
        raise UserError(f"{root} holds {listed}: which should be used? Give {choices}")
    return next(iter(found))
