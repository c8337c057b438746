"""Read tables: text files with a header and a row for each image (CSV)."""

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path

from kit.formats.folders import FaultCollector
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.files import MARKS, MAX_LIST_BYTES, read_bytes, read_text

MAX_HEADER_BYTES = 2**16
NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}  # the separators of cells


def column_names(file: Path) -> list[str]:
    """Return the names in the header of a table, or [] if the header cannot be read. The rows may be broken."""
    with suppress(BrokenFiles, csv.Error):
        content = read_bytes(file, MAX_LIST_BYTES)
        encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8")
        reader, _ = _open(content[:MAX_HEADER_BYTES].decode(encoding, "replace"))
        return [name.strip() for name in reader.fieldnames or ()]
    return []


def read_table(file: Path, needed: Sequence[str], report_fault: FaultCollector) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column name) for each row. Lines count from 1. Missing cells are "".

    The separator is a comma, a semicolon or a tab, whichever is most frequent in the header. Blanks around cells are
    removed, and blank rows are left out. Rows with more cells than the header are reported and left out.

    Args:
        needed: the names of the columns that must be in the header.

    Raises:
        BrokenFiles: the file cannot be read (see `read_text`).
        UserError: a needed column is missing or repeated, the quotation marks are broken, or the file is a spreadsheet.
    """
    if file.suffix.lower() in (".xlsx", ".xls", ".ods"):
        raise UserError(f"{file}: a spreadsheet; save the table as CSV UTF-8, and give that file")
    reader, separator = _open(read_text(file, MAX_LIST_BYTES))
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        if any(reader.fieldnames.count(name) != 1 for name in needed):
            header, names = separator.join(reader.fieldnames), " and ".join(needed)
            raise UserError(f"{file}:1: the header is '{header}', but must have {names} once each")
        for cells in reader:
            row = {name: (cell or "").strip() for name, cell in cells.items() if name is not None}
            if any(map(str.strip, cells.get(None, ()))):
                message = f"a row with more cells than the header has; put text with {NAMES[separator]} in quotes"
                report_fault("bad-row", file, message, reader.line_num)
            elif any(row.values()):
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num + 1}: broken CSV ({error}); look at the quotes there") from None


def _open(text: str) -> tuple[csv.DictReader, str]:
    """Return a reader of the text of a table, and the separator of its cells."""
    lines = StringIO(text, newline="")
    separator = max(NAMES, key=lines.readline().count)
    lines.seek(0)
    return csv.DictReader(lines, delimiter=separator, skipinitialspace=True, strict=True), separator
