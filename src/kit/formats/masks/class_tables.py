"""Read class tables: text files with the name, and perhaps the id or the colour, of each class."""

import re
from pathlib import Path
from typing import NamedTuple

from kit.ground.errors import UserError
from kit.ground.files import MAX_CONFIG_BYTES, read_text

FILES = ("classes.txt", "classes.csv", "class_dict.csv", "_classes.csv", "label_colors.txt", "labelmap.txt")
FILES += ("codes.txt",)  # fastai
HIGHEST_ID = 2**16 - 1  # the largest pixel value of a mask
LONGEST = 1000  # characters of a line
VOID_NAMES = {"void", "unlabelled", "unlabeled", "ignore", "ignored"}  # names of classes that are ignored by default

_COLOUR = r"(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)"
_LINES = (  # the first that matches
    re.compile(rf"(?P<name>[^:]+):(?:{_COLOUR})?:.*"),  # CVAT
    re.compile(rf"{_COLOUR}[\s,;]+(?P<name>\S.*)"),  # CamVid
    re.compile(rf"(?P<name>.*\S)[\s,;]+{_COLOUR}"),
    re.compile(r"(?P<id>\d+)\s*[,;]\s*(?P<name>\S.*)"),  # Roboflow
    re.compile(r"(?P<name>.*)"),
)
_HEADER = re.compile(r"\W*(name|class|label|pixel value|id|r|red)\W*[,;]", re.IGNORECASE)


class Entry(NamedTuple):
    """A class: its pixel value in masks, its name, and its colour (red, green, blue) in coloured masks."""

    id: int
    name: str
    colour: tuple[int, int, int] | None


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
        parts = next(match for pattern in _LINES if (match := pattern.fullmatch(line))).groupdict()
        colour = tuple(int(parts[part]) for part in ("red", "green", "blue")) if parts.get("red") else None
        if colour and max(colour) > 255:
            raise UserError(f"{file}:{number}: a colour is three numbers from 0 to 255, and this is '{line}'")
        entry = Entry(int(parts.get("id") or len(entries)), parts["name"].strip(" \t,;"), colour)
        if entry.id > HIGHEST_ID:
            raise UserError(f"{file}:{number}: id {entry.id}, but an id is from 0 to {HIGHEST_ID}")
        if (other := names.setdefault(entry.id, entry.name)) != entry.name:
            raise UserError(f"{file}:{number}: id {entry.id} already belongs to '{other}'; give each class its own")
        entries.append(entry)
    if not entries:
        raise UserError(f"{file}: no classes in it; expected one a line, NAME or NAME R G B")
    return entries
