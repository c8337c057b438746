"""Recognise where the labels of images are: in the names of class folders, or in a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kit.formats.class_folders import ClassFolders
from kit.formats.folders import files_in
from kit.formats.label_table import COLUMNS, LabelTable, column_names
from kit.formats.recognition import choose_format, refuse_other_options
from kit.ground.errors import UserError

Format = Literal["folders", "table"]
TABLE = "labels.csv"
SEPARATOR = ";"  # the default for the text between two labels in a cell


def open_labels(
    root: Path, format: Format | None, file: str | None, label_separator: str | None, group: str | None
) -> ClassFolders | LabelTable:
    """Return the reader of a data set's labels.

    Args:
        root: the folder of the data set.
        format: `folders` for class folders, `table` for a table. By default, it is `table` if `file` is given; else, it
            is recognised from the files in `root`.
        file: the path of the table, relative to `root`. By default, it is `labels.csv`, or the only table with the
            columns path and label.
        label_separator: see `LabelTable`.
        group: see `ClassFolders`.

    Raises:
        UserError: neither or both formats are found, the table does not exist, or there are several tables.
        OtherOptions: an argument does not belong to the format.
    """
    tables = [root / file] if file is not None else _find_tables(root)
    if format is None:
        format = "table" if file is not None else _recognise(root, ClassFolders(root), tables)
    table_options = {"file": file, "label_separator": None if label_separator == SEPARATOR else label_separator}
    refuse_other_options(format, {("table",): table_options, ("folders",): {"group": group}})
    if format == "folders":
        folders = ClassFolders(root, group)
        folders.warn_about_other_folders()
        return folders
    if len(tables) > 1:
        names = ", ".join(table.name for table in tables[:5])
        problem = f"{root} has several tables with the columns path and label ({names})"
        raise UserError(f"{problem}: name one with --data.file")
    if not tables[0].is_file():
        remedy = "give its folder with --data.root and its name with --data.file"
        raise UserError(f"no table at {tables[0].absolute()}; {remedy}")
    return LabelTable(root, tables[0], label_separator)


def _find_tables(root: Path) -> list[Path]:
    """Return the tables in a folder that list images, but only `labels.csv` if it is one of them or there are none."""
    tables = [file for file in files_in(root, {".csv", ".tsv"}) if _lists_images(file)]
    return tables if tables and root / TABLE not in tables else [root / TABLE]


def _lists_images(file: Path) -> bool:
    return {*COLUMNS} <= {*column_names(file)}


def _recognise(root: Path, folders: ClassFolders, tables: Sequence[Path]) -> str:
    """Return the format of the data in a folder. If there is a table, a single folder with images is not a class."""
    has_table = tables[0].is_file()
    classes = folders.classes(folders.first_split)
    names = {name for name, folder in classes if not has_table or folders.images(folder)}
    formats = {}
    if names and not (has_table and len(names) == 1):
        formats["folders"] = f"{len(names)} class folder{'s' * (len(names) > 1)} in {folders.first_split}"
    if has_table and (not formats or _lists_images(tables[0])):  # reading raises an error if a column is missing
        formats["table"] = f"the table {tables[0].name}" if len(tables) == 1 else f"{len(tables)} tables"
    expected = f"{folders.first_split}/CLASS/*.jpg (folders named train, val or test are splits), "
    return choose_format(root, formats, f"{expected}or {root / TABLE} with the columns path and label")
