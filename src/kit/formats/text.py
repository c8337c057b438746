"""Read the values, lines, tables and XML of annotation files, within limits of size.

Plain text, JSON and YAML are read by `kit.ground.files` and `kit.ground.yaml_files`.
"""

import csv
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from kit.formats.folders import FaultCollector
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault, fault
from kit.ground.files import MAX_ANNOTATION_BYTES, MAX_LIST_BYTES, read_text

MAX_LINE = 1000  # characters in a line of a list


def number(written: Any) -> float | None:
    """Return a number from JSON or XML, or from a text, as a float. Return None for anything but a finite number."""
    if isinstance(written, bool) or (isinstance(written, str) and "_" in written):
        return None  # Python would read True as 1 and "1_000" as 1000
    try:
        value = float(written)
    except (TypeError, ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def describe_size(size: Sequence[int]) -> str:
    """Return a height and width in pixels in words."""
    return f"{size[0]} high and {size[1]} wide"


def read_lines(file: Path, most: int = MAX_LIST_BYTES, longest: int = MAX_LINE) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the stripped text of each line that is not blank.

    Args:
        most: the maximum size of the file, in bytes.
        longest: the maximum length of a line, in characters.

    Raises:
        BrokenFiles: the file cannot be read (see `read_text`).
        UserError: a line is too long.
    """
    lines = StringIO(read_text(file, most), newline=None)  # `str.splitlines` would also split at other characters
    for number, line in enumerate(map(str.strip, lines), 1):
        if len(line) > longest:
            raise UserError(f"{file}:{number}: a line has {len(line):,} characters, but may have at most {longest:,}")
        if line:
            yield number, line


def read_table(file: Path, needed: Sequence[str], report_fault: FaultCollector) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column name) for each row of a CSV file. Lines count from 1. Missing cells are "".

    The separator is a comma, a semicolon or a tab, whichever is most frequent in the header. Blanks around cells are
    removed, and blank rows are left out. Rows with more cells than the header are reported and left out.

    Args:
        needed: the names of the columns that must be in the header.

    Raises:
        BrokenFiles: the file cannot be read (see `read_text`).
        UserError: a needed column is missing or repeated, or the quotation marks are broken.
    """
    lines = StringIO(read_text(file, MAX_LIST_BYTES), newline="")
    separator = max(",;\t", key=lines.readline().count)
    lines.seek(0)
    reader = csv.DictReader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        if any(reader.fieldnames.count(name) != 1 for name in needed):
            header, names = separator.join(reader.fieldnames), " and ".join(needed)
            raise UserError(f"{file}:1: the header is '{header}', but must have {names} once each")
        for cells in reader:
            row = {name: (cell or "").strip() for name, cell in cells.items() if name is not None}
            if any(map(str.strip, cells.get(None, ()))):
                message = "a row with more cells than the header has; put text with commas in quotes"
                report_fault("bad-row", file, message, reader.line_num)
            elif any(row.values()):
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num + 1}: broken CSV ({error}); look at the quotes there") from None


def read_xml(file: Path) -> tuple[ElementTree.Element, str]:
    """Return the root element of an XML file, and the file's text. The encoding that the file declares is ignored.

    Raises:
        BrokenFiles: the file cannot be read (see `read_text`), is not XML, or declares entities.
    """
    text = read_text(file, MAX_ANNOTATION_BYTES)
    if "<!ENTITY" in text:  # a few of them may expand to gigabytes
        raise BrokenFiles(f"{file}: it declares entities, which no annotation needs")
    try:
        return ElementTree.fromstring(text), text
    except (ElementTree.ParseError, ValueError) as error:  # ValueError: a lone surrogate
        line = f":{error.position[0]}" if isinstance(error, ElementTree.ParseError) else ""
        raise BrokenFiles(f"{file}{line}: broken XML ({error}); export the file again, or remove it") from None


def joined_class_faults(names: Iterable[str], file: object) -> list[Fault]:
    """Return a fault for each name that several classes have.

    Args:
        names: the name of each class.
        file: the file or folder that has these names.
    """
    message = "{} classes are named '{}', and become one class; rename them if they differ"
    joined = [(count, name) for name, count in Counter(names).items() if count > 1]
    return [fault("class-joined", file, message.format(*pair)) for pair in joined]


def unreadable_fault(file: Path, error: UserError) -> Fault:
    """Return the fault for an error in reading a file. The error's message begins with `FILE:` or `FILE:LINE:`."""
    line, message = re.fullmatch(rf"(?:{re.escape(str(file))}:(\d+)?:? *)?(.*)", str(error), re.DOTALL).groups()
    return Fault("annotation-unreadable", "error", str(file), int(line) if line else None, message)
