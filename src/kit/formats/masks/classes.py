"""Find the class of each pixel value in a data set's mask files, from a class table or the values in all masks.

A class table is a text file that lists the names of the classes, and perhaps their ids or colours. The id of a class is
its pixel value in the masks.
"""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kit.formats.masks.mask_images import MAX_LISTED, is_grey, read_values
from kit.formats.masks.masks import IGNORED
from kit.formats.text import read_lines
from kit.ground.errors import BrokenFiles, UserError, did_you_mean
from kit.ground.files import MAX_CONFIG_BYTES
from kit.ground.threads import map_in_threads

# The names of class tables.
TABLE_NAMES = ("classes.txt", "classes.csv", "class_dict.csv", "_classes.csv", "label_colors.txt", "labelmap.txt")
TABLE_NAMES += ("codes.txt",)  # fastai
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
HIGHEST_ID = 2**16 - 1  # the largest pixel value of a mask
# The names of classes that are ignored by default.
VOID_NAMES = {"void", "unlabelled", "unlabeled", "ignore", "ignored"}

_COLOUR = r"(?P<red>\d+)[\s,;]+(?P<green>\d+)[\s,;]+(?P<blue>\d+)"
_LINES = (  # the formats of a line in a class table, in the order in which they are tried
    re.compile(rf"(?P<name>[^:]+):(?:{_COLOUR})?:.*"),  # CVAT
    re.compile(rf"{_COLOUR}[\s,;]+(?P<name>\S.*)"),  # CamVid
    re.compile(rf"(?P<id>\d+)\s*[,;\t]\s*(?P<name>.*\S)\s*[,;\t]\s*{_COLOUR}"),
    re.compile(rf"(?P<name>.*\S)[\s,;]+{_COLOUR}"),
    re.compile(r"(?P<id>\d+)\s*[,;\t]\s*(?P<name>\S.*)"),  # Roboflow
    re.compile(r"(?P<name>.*)"),
)
_RGB = r"(r\s+g\s+b|red\s+green\s+blue)"
_HEADER = re.compile(  # without a field that is a number, which the line of a class named `red` may have
    rf"(?!.*[,;\t]\s*\d+\s*([,;\t]|$))\W*(name|class|label|pixel value|id|r|red)\W*[,;\t].*"
    rf"|((id|name|class|label)\s+)+{_RGB}|{_RGB}\s+(name|class|label)",
    re.IGNORECASE,
)


class Entry(NamedTuple):
    """A class: its pixel value in masks (`id`), its name, and its red, green and blue in coloured masks."""

    id: int
    name: str
    colour: tuple[int, int, int] | None


def read_table(file: Path) -> list[Entry]:
    """Read a class table.

    Each line is a class: `NAME`, `NAME R G B`, `R G B NAME`, `NAME:R,G,B::`, `ID, NAME` or `ID, NAME, R, G, B`. Without
    ids, the ids are counted from 0. Lines that begin with `#` are left out, and a header in which no field is a number.

    Raises:
        BrokenFiles: the file cannot be read.
        UserError: a line is too long, a colour or an id is too large, an id has two names, or there are no classes.
    """
    entries: list[Entry] = []
    names: dict[int, str] = {}
    for number, line in read_lines(file, MAX_CONFIG_BYTES):
        if line.startswith("#") or (not entries and _HEADER.fullmatch(line)):
            continue
        parts = next(match for pattern in _LINES if (match := pattern.fullmatch(line))).groupdict()
        colour = tuple(int(parts[part]) for part in ("red", "green", "blue")) if parts.get("red") else None
        if colour and max(colour) > 255:
            raise UserError(f"{file}:{number}: a colour is three numbers from 0 to 255, but this is '{line}'")
        entry = Entry(int(parts.get("id") or len(entries)), parts["name"].strip(" \t,;"), colour)
        if entry.id > HIGHEST_ID:
            raise UserError(f"{file}:{number}: id {entry.id}, but an id is from 0 to {HIGHEST_ID}")
        if (other := names.setdefault(entry.id, entry.name)) != entry.name:
            raise UserError(f"{file}:{number}: id {entry.id} already belongs to '{other}'; give each class its own")
        entries.append(entry)
    if not entries:
        raise UserError(f"{file}: no classes; write one on each line, NAME or NAME R G B")
    return entries


def class_number(name: str, class_names: Sequence[str], root: Path) -> int:
    """Return the number of a class: its index in `class_names`.

    Raises:
        UserError: the class is not in `class_names`. They come from a checkpoint, or from the COCO file of another
            split. The message names `root`, the folder of the data set.
    """
    if name not in class_names:
        raise UserError(f"{root}: the model has no class '{name}'{did_you_mean(name, class_names)}")
    return class_names.index(name)


def read_pixel_values(masks: Sequence[Path]) -> dict[frozenset[int], Path]:
    """Return a dict from a set of pixel values to the first mask with exactly these values.

    The set of a coloured mask is empty. Unreadable masks are left out.

    Raises:
        BrokenFiles: no mask can be read.
    """
    contents = list(map_in_threads(_values_in, masks))
    readable = [(values, mask) for values, mask in zip(contents, masks, strict=True) if isinstance(values, frozenset)]
    if not readable:
        raise contents[0]
    return dict(reversed(readable))  # of masks with the same values, the first one stays


def _values_in(mask: Path) -> frozenset[int] | BrokenFiles:
    """Return the set of a mask's pixel values, or the error in reading it. The set of a coloured mask is empty."""
    try:
        values = read_values(mask)
    except BrokenFiles as error:
        return error
    if values.ndim == 3:
        values = values[..., 0] if is_grey(values) else np.empty(0, int)
    if values.dtype == np.uint8:  # much faster than `np.unique` of all pixels
        values = np.flatnonzero(np.bincount(values.ravel(), minlength=256))
    return frozenset(np.unique(values).tolist())


def infer_entries(
    named: Sequence[Entry] | None, masks: Sequence[Path], ignored: Collection[int], root: Path
) -> list[Entry]:
    """Return the classes and their pixel values.

    If exactly two classes are named, or none, and the masks have only the values 0 and 255 apart from ignored values,
    then these are the ids of the two classes. Of two named classes, the black one gets 0. If neither is black, but one
    is white, the other one gets 0. Otherwise the class with the lower id gets 0.

    In all other cases, named classes keep their ids. If none are named, 255 is ignored, and each id from 0 to the
    highest other one is a class.

    Args:
        named: the classes that a table or the user has named, or None.
        masks: all mask files. They are read only if their values matter.
        ignored: the values that the user wants to ignore.
        root: the data set's folder, for messages.

    Raises:
        UserError: the classes cannot be inferred from the values. The message has a remedy.
    """
    if named is not None and len(named) != 2:
        return list(named)
    files = read_pixel_values(masks)
    values = frozenset().union(*files) - set(ignored)
    if values == {0, IGNORED}:
        classes = named or (Entry(0, "background", None), Entry(1, "foreground", None))
        black = min(classes, key=lambda entry: (entry.colour != BLACK, entry.colour == WHITE, entry.id))
        return [entry._replace(id=0 if entry is black else IGNORED) for entry in classes]
    sets_with_other_ids = [values_of_mask for values_of_mask in files if values_of_mask - {0, IGNORED}]
    black_and_white_file = files.get(frozenset({0, IGNORED}))
    if black_and_white_file and sets_with_other_ids and IGNORED in values - frozenset().union(*sets_with_other_ids):
        other_file = files[sets_with_other_ids[0]]
        both = f"{black_and_white_file} has only 0 and 255, but {other_file} has other ids and no 255"
        raise UserError(f"{root}: {both}; use the same values in all masks, or list the classes' ids with --data.ids")
    if values == {IGNORED}:
        raise UserError(f"{root}: all pixels of the masks are 255, which is ignored; if it is a class, give --data.ids")
    return list(named) if named is not None else _classes_of_ids(files, values - {IGNORED}, root)


def _classes_of_ids(files: dict[frozenset[int], Path], ids: frozenset[int], root: Path) -> list[Entry]:
    """Return a class for each id from 0 to the highest one, named by the id.

    Raises:
        UserError: there are no ids, an id is negative, or more than half of the ids up to the highest do not occur.
    """
    if not ids and frozenset() not in files:  # no mask is coloured
        raise UserError(f"{root}: all values in the masks are in --data.ignore; leave out those that are classes")
    if not ids:
        remedy = f"give each class's colour with --data.colors, or in {root}/classes.txt as NAME R G B"
        raise UserError(f"{root}: the masks are coloured, and nothing says which colour is which class; {remedy}")
    if min(ids) < 0 or 2 * len(ids) < max(ids) + 1:
        listed = ", ".join(map(str, sorted(ids)[:MAX_LISTED]))
        value, dots = (f" '[{listed}]'", "") if len(ids) <= MAX_LISTED else ("", ", ...")
        example = next((id for id in sorted(ids) if id not in (0, 1)), max(ids))
        file = next(file for content, file in files.items() if example in content)
        problem = f"the masks have the ids {listed}{dots} ({example} in {file}), and nothing names the classes"
        note = "; 255 is ignored unless you list it" if any(IGNORED in content for content in files) else ""
        raise UserError(f"{root}: {problem}; list the classes' ids with --data.ids{value}{note}")
    return [Entry(id, str(id), None) for id in range(max(ids) + 1)]
