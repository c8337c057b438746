"""Read tables: text files with a header and a row for each image (CSV)."""

import csv
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from kit.formats.folders import FaultCollector
from kit.ground.errors import UserError
from kit.ground.files import MAX_LIST_BYTES, read_text


def read_table(file: Path, needed: Sequence[str], report_fault: FaultCollector) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column name) for each row. Lines count from 1. Missing cells are "".

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
