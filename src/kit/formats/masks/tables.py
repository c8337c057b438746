"""Class tables: which id, and which colour, has which name."""

import re
from pathlib import Path
from typing import NamedTuple

from kit.ground.errors import UserError
from kit.ground.reading import MOST_OF_CONFIG, read_text

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
UNNAMED = {"void", "unlabelled", "unlabeled", "ignore", "ignored"}  # ignored where the user does not say otherwise

_COLOUR = r"(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)"
_NAME_COLOUR = re.compile(rf"^(?P<name>.*\S)[\s,;]+{_COLOUR}$")
_COLOUR_NAME = re.compile(rf"^{_COLOUR}[\s,;]+(?P<name>\S.*)$")  # CamVid's own order
_LABELMAP = re.compile(rf"^(?P<name>[^:]+):(?:{_COLOUR})?:.*$")  # CVAT
_ID_NAME = re.compile(r"^(?P<id>\d+)\s*[,;]\s*(?P<name>\S.*)$")  # Roboflow
_HEADER = re.compile(r"^\W*(name|class|label|pixel value|id|r|red)\W*[,;]", re.IGNORECASE)


class Entry(NamedTuple):
    id: int
    name: str
    colour: tuple[int, int, int] | None


def find_table(folders: list[Path]) -> Path | None:
    """The first class table in any of the folders."""
    for folder in folders:
        there = {path.name.lower(): path for path in folder.iterdir() if path.is_file()}
        for name in FILES:
            if name in there:
                return there[name]
    return None


def read_table(file: Path) -> list[Entry]:
    """A class a line: `NAME`, `NAME R G B`, `R G B NAME`, `NAME:R,G,B::` or `ID, NAME`; the first has the id 0.

    Raises:
        UserError: a line is not understood, an id is larger than a mask's or has two names, or the file is empty.
    """
    entries: list[Entry] = []
    names: dict[int, str] = {}
    for number, raw in enumerate(read_text(file, MOST_OF_CONFIG).splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#") or (not entries and _HEADER.match(line)):
            continue
        if len(line) > LONGEST:
            raise UserError(f"{file}:{number}: a line of {len(line):,} characters, but a class has at most {LONGEST:,}")
        found = _LABELMAP.match(line) or _COLOUR_NAME.match(line) or _NAME_COLOUR.match(line)
        numbered = _ID_NAME.match(line)
        if found:
            colour = tuple(int(found[part]) for part in ("red", "green", "blue")) if found["red"] else None
            if colour and max(colour) > 255:
                raise UserError(f"{file}:{number}: a colour is three numbers from 0 to 255, and this is '{line}'")
            entries.append(Entry(len(entries), found["name"].strip(" \t,;"), colour))
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
