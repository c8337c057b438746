"""Read labels from a table (CSV): a text file with a header and a row for each image.

A cell may hold several labels, such as `cat;dog`. All images of the table may then have any number of labels, and an
empty cell means no labels.
"""

import csv
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from kit.formats.folders import FaultCollector, images, split_of
from kit.formats.paths import Finder
from kit.ground.errors import UserError, did_you_mean
from kit.ground.faults import Fault, fault
from kit.ground.files import MAX_LIST_BYTES, read_ends, read_text

MAX_HEADER_BYTES = 2**16
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}  # the separators of cells, and their names


def column_names(file: Path) -> list[str]:
    """Return the names in the header of a table, or [] if it cannot be read. Broken rows do not matter."""
    with suppress(csv.Error):
        # `read_ends` removes the zeros of UTF-16, and "ignore" drops its byte order mark.
        reader, _ = _open(read_ends(file, MAX_HEADER_BYTES).decode("utf-8-sig", "ignore"))
        return [name.strip() for name in reader.fieldnames or ()]
    return []


def read_table(
    file: Path, needed: Sequence[str], report_fault: FaultCollector, optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by column name) for each row. Lines count from 1. Missing cells are "".

    The separator is a comma, a semicolon or a tab, whichever is most frequent in the header. Blanks around cells are
    removed, and blank rows are left out. Rows with more cells than the header are reported and left out.

    Args:
        needed: the names of the columns that must be in the header.
        optional: the names of other columns that have a meaning.

    Raises:
        BrokenFiles: the file cannot be read (see `read_text`).
        UserError: a needed column is missing, a column with a meaning is repeated or is not in lower case, or the
            quotation marks are broken.
    """
    reader, separator = _open(read_text(file, MAX_LIST_BYTES))
    try:
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        if any(reader.fieldnames.count(name) != 1 for name in needed):
            header, names = separator.join(reader.fieldnames), " and ".join(needed)
            raise UserError(f"{file}:1: the header is '{header}', but must have {names} once each")
        for name in optional:
            spellings = [column for column in reader.fieldnames if column.lower() == name]
            if spellings not in ([], [name]):
                header = separator.join(spellings)
                raise UserError(f"{file}:1: the header has '{header}'; write '{name}', and only once")
        for cells in reader:
            row = {name: (cell or "").strip() for name, cell in cells.items() if name is not None}
            if any(map(str.strip, cells.get(None, ()))):
                message = f"a row with more cells than the header has; put text with {SEPARATORS[separator]} in quotes"
                report_fault("bad-row", file, message, reader.line_num)
            elif any(row.values()):
                yield reader.line_num, row
    except csv.Error as error:
        raise UserError(f"{file}:{reader.line_num + 1}: broken CSV ({error}); look at the quotes there") from None


def _open(text: str) -> tuple[csv.DictReader, str]:
    """Return a reader of the text of a table, and the separator of its cells."""
    lines = StringIO(text, newline="")
    separator = max(SEPARATORS, key=lines.readline().count)
    lines.seek(0)
    return csv.DictReader(lines, delimiter=separator, skipinitialspace=True, strict=True), separator


COLUMNS = ("path", "label")  # the columns that a table must have
OPTIONAL_COLUMNS = ("split", "group")


class Row(NamedTuple):
    """A row of a table.

    line: the number of the line, from 1.
    image: the path of the image.
    split: `train`, `val` or `test`.
    label: the text of the label cell.
    group: the text of the cell `group`, or None if the table has no such column.
    """

    line: int
    image: Path
    split: str
    label: str
    group: str | None


class LabelTable:
    """A table with the columns `path` and `label`, and optionally `split` (train, val or test) and `group`.

    Args:
        root: the folder of the data set, to which the paths in the table are relative.
        file: the CSV file.
        label_separator: the text between two labels in a cell; None if each cell is one label.

    Attributes:
        source: `file`, for error messages.
        report_fault: reports rows that cannot be used.
        listed_images: the images of all rows; set by `rows`.
    """

    def __init__(self, root: Path, file: Path, label_separator: str | None) -> None:
        self.source, self.root, self.label_separator = file, root, label_separator or None
        self.report_fault = FaultCollector()
        self.listed_images: set[Path] = set()

    @cached_property
    def rows(self) -> list[Row]:
        """The rows with a path, a split and, if there is such a column, a group."""
        rows: list[Row] = []
        table = list(read_table(self.source, COLUMNS, self.report_fault, OPTIONAL_COLUMNS))
        find_image = Finder(lambda: images(self.root), [self.root], [cells["path"] for _, cells in table])
        for line, cells in table:
            split, group = split_of(cells.get("split") or "train"), cells.get("group")
            if not cells["path"]:
                self.report_fault("bad-row", self.source, "a row without a path", line)
                continue
            image = find_image(cells["path"]) or self.root / cells["path"]
            self.listed_images.add(image.resolve())
            if split is None:
                message = f"split '{cells['split']}' is not one of train, val, test"
                self.report_fault("unknown-split", self.source, message, line)
            elif group == "":
                self.report_fault("no-group", self.source, "a row without a group; fill or remove the column", line)
            else:
                rows.append(Row(line, image, split, cells["label"], group))
        find_image.report_other_paths(self.source)
        return rows

    @property
    def class_rows(self) -> list[Row]:
        """The rows that define the classes: the rows of train, or all rows if there is no train."""
        return [row for row in self.rows if row.split == "train"] or self.rows

    def has_several_labels(self) -> bool:
        return self.label_separator is not None and any(self.label_separator in row.label for row in self.class_rows)

    def names(self, several_labels: bool) -> list[str]:
        """Return the labels in `class_rows`, sorted.

        Args:
            several_labels: whether an image may have any number of labels.

        Raises:
            UserError: no row has a label.
        """
        names = sorted({label for row in self.class_rows for label in self.labels(row, several_labels) or ()})
        if not names:
            raise UserError(f"{self.source}: no usable rows")
        return names

    def labels(self, row: Row, several_labels: bool) -> list[str] | None:
        """Return the labels of a row. If a label is required and missing, report this, and return None."""
        if several_labels and self.label_separator is not None:
            return [label for part in row.label.split(self.label_separator) if (label := part.strip())]
        if row.label or several_labels:
            return [row.label] if row.label else []
        self.report_fault("no-label", self.source, "a row without a label; data.several_labels allows it", row.line)
        return None

    def examples(self) -> list[Path]:
        """Return the images of `class_rows`."""
        return [row.image for row in self.class_rows]

    def read(
        self, split: str, class_names: Sequence[str], several_labels: bool
    ) -> tuple[list[Path], Tensor, list[str] | None] | None:
        """Return the images of a split, their targets and their groups; None if it has no usable row.

        Args:
            class_names: the names of the classes 0, 1, 2, ...
            several_labels: whether an image may have any number of labels.

        Returns:
            the paths; Long[N] class numbers or, with `several_labels`, Float[N K] of 0 and 1; and the groups, or None.

        Raises:
            UserError: a label is unknown or missing. While `check` runs, `report_fault` stores this as a fault instead.
        """
        numbers = {name: number for number, name in enumerate(class_names)}
        rows, classes = list[Row](), list[list[int]]()
        for row in self.rows:
            labels = self.labels(row, several_labels) if row.split == split else None
            if unknown := [label for label in labels or () if label not in numbers]:
                message = f"training has no class '{unknown[0]}'{did_you_mean(unknown[0], class_names)}"
                self.report_fault("class-unknown", self.source, message, row.line)
            elif labels is not None:
                rows.append(row)
                classes.append([numbers[label] for label in labels])
        if not rows:
            return None
        if several_labels:
            targets = torch.zeros(len(rows), len(class_names))
            for target, labels in zip(targets, classes, strict=True):
                target[labels] = 1
        else:
            targets = torch.tensor(classes)[:, 0]
        groups = [row.group for row in rows if row.group is not None]
        return [row.image for row in rows], targets, groups or None

    def unused(self) -> Iterator[Fault]:
        """Yield a fault for each image that the table does not list."""
        for path in images(self.root):
            if path.resolve() not in self.listed_images:
                yield fault("annotation-missing", path, f"not used, since {self.source.name} has no row for it")
