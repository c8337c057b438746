"""Read class tables: text files with the name, and perhaps the id or the colour, of each class."""

import re
from pathlib import Path
from typing import NamedTuple

from kit.ground.errors import UserError
from kit.ground.files import MAX_CONFIG_BYTES, read_text

FILES = (
    "classes.txt",
    "classes.csv",
    "class_dict.csv",
    "_classes.csv",
    "label_colors.txt",
    "labelmap.txt",
    "codes.txt",
)
HIGHEST_ID = 2**16 - 1  # the largest pixel value of a mask
LONGEST = 1000  # characters of a line
VOID_NAMES = {"void", "unlabelled", "unlabeled", "ignore", "ignored"}  # names of classes that are ignored by default

_COLOUR = r"(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)"
_NAME_COLOUR = re.compile(rf"^(?P<name>.*\S)[\s,;]+{_COLOUR}$")
_COLOUR_NAME = re.compile(rf"^{_COLOUR}[\s,;]+(?P<name>\S.*)$")  # CamVid
_LABELMAP = re.compile(rf"^(?P<name>[^:]+):(?:{_COLOUR})?:.*$")  # CVAT
_ID_NAME = re.compile(r"^(?P<id>\d+)\s*[,;]\s*(?P<name>\S.*)$")  # Roboflow
_HEADER = re.compile(r"^\W*(name|class|label|pixel value|id|r|red)\W*[,;]", re.IGNORECASE)


class Entry(NamedTuple):
    """A class: its pixel value in masks, its name, and its colour (red, green, blue) in coloured masks."""

    id: int
    name: str
    colour: tuple[int, int, int] | None


def find_table(folders: list[Path]) -> Path | None:
    """Return the first class table in the folders, or None."""
    for folder in folders:
        files = {path.name.lower(): path for path in folder.iterdir() if path.is_file()}
        for name in FILES:
            if name in files:
                return files[name]
    return None


def read_table(file: Path) -> list[Entry]:
    """Read a class table.

    Each line has a class: `NAME`, `NAME R G B`, `R G B NAME`, `NAME:R,G,B::` or `ID, NAME`. Without ids, the first
    class has the id 0.

    Raises:
        UserError: a line is not valid, an id is too large for a mask or has two names, or the file is empty.
    """
    entries: list[Entry] = []
    names: dict[int, str] = {}
    for number, raw in enumerate(read_text(file, MAX_CONFIG_BYTES).splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#") or (not entries and _HEADER.match(line)):
            continue
        if len(line) > LONGEST:
            raise UserError(f"{file}:{number}: a line of {len(line):,} characters, but a class has at most {LONGEST:,}")
        match = _LABELMAP.match(line) or _COLOUR_NAME.match(line) or _NAME_COLOUR.match(line)
        numbered = _ID_NAME.match(line)
        if match:
            colour = tuple(int(match[part]) for part in ("red", "green", "blue")) if match["red"] else None
            if colour and max(colour) > 255:
                raise UserError(f"{file}:{number}: a colour is three numbers from 0 to 255, and this is '{line}'")
            entries.append(Entry(len(entries), match["name"].strip(" \t,;"), colour))
        elif numbered:
            entries.append(Entry(int(numbered["id"]), numbered["name"], None))
        else:
            entries.append(Entry(len(entries), line, None))
        last = entries[-1]
        if last.id > HIGHEST_ID:
            raise UserError(f"{file}:{number}: id {last.id}, but an id is from 0 to {HIGHEST_ID}")
        if (other := names.setdefault(last.id, last.name)) != last.name:
            raise UserError(f"{file}:{number}: id {last.id} already belongs to '{other}'; give each class its own")
    if not entries:
        raise UserError(f"{file}: no classes in it; expected one a line, NAME or NAME R G B")
    return entries
