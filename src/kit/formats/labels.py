"""Recognise where the labels of images are: in the names of class folders, or in a table."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kit.formats.class_folders import ClassFolders
from kit.formats.folders import FaultCollector, files_in
from kit.formats.label_table import COLUMNS, LabelTable, column_names, read_table
from kit.formats.recognition import choose_format, refuse_other_options
from kit.ground.errors import UserError

Format = Literal["folders", "table"]
TABLE = "labels.csv"
SEPARATOR = ";"  # the default for the text between two labels in a cell


def open_labels(
    root: Path, format: Format | None, file: str | None, separator: str | None, group: str | None
) -> ClassFolders | LabelTable:
    """Return the reader of a data set's labels.

    Args:
        root: the folder of the data set.
        format: `folders` for class folders, `table` for a table. By default, it is `table` if `file` is given; else, it
            is recognised from the files in `root`.
        file: the path of the table, relative to `root`. By default, it is `labels.csv`, or the only table with the
            columns path and label.
        separator: see `LabelTable`.
        group: see `ClassFolders`.

    Raises:
        UserError: neither or both formats are found, the table does not exist, or there are several tables.
        OtherOptions: an argument does not belong to the format.
    """
    format = format or ("table" if file is not None else None)
    tables = [] if format == "folders" else _find_tables(root)
    folders = None if format == "table" else ClassFolders(root, group)
    if folders and format is None:
        format = _recognise(root, folders, tables)
    table_options = {"file": file, "label_separator": None if separator == SEPARATOR else separator}
    refuse_other_options(format, {("table",): table_options, ("folders",): {"group": group}})
    if folders and format == "folders":
        folders.warn_about_other_folders()
        return folders
    if file is None and len(tables) > 1:
        names = ", ".join(table.name for table in tables[:5])
        problem = f"{root} has several tables with the columns path and label ({names})"
        raise UserError(f"{problem}: name one with --data.file")
    table = tables[0] if tables and file is None else root / (file or TABLE)
    if not table.is_file():
        remedy = "give its folder with --data.root and its name with --data.file"
        raise UserError(f"no table at {table.absolute()}; {remedy}")
    return LabelTable(root, table, separator)


def _find_tables(root: Path) -> list[Path]:
    """Return the tables in a folder that list images, but only `labels.csv` if it is one of them."""
    tables = [file for file in files_in(root, {".csv", ".tsv"}) if {*COLUMNS} <= {*column_names(file)}]
    return [root / TABLE] if root / TABLE in tables else tables


def _recognise(root: Path, folders: ClassFolders, tables: Sequence[Path]) -> str:
    """Return the format of the data in a folder. If there is a table, a single folder with images is not a class."""
    has_table = bool(tables) or (root / TABLE).is_file()
    classes = folders.classes(folders.first_split)
    names = {name for name, folder in classes if not has_table or folders.images(folder)}
    formats = {}
    if names and not (has_table and len(names) == 1):
        formats["folders"] = f"{len(names)} class folder{'s' * (len(names) > 1)} in {folders.first_split}"
    if tables or (has_table and not formats):  # reading raises an error if `labels.csv` lacks a column
        formats["table"] = f"the table {tables[0].name}" if len(tables) == 1 else f"{len(tables) or 'no'} usable tables"
    if len(formats) == 2 and len(tables) == 1:
        labels = defaultdict[str, set[str]](set)  # from a folder's name to the labels of its images
        for _, cells in read_table(tables[0], COLUMNS, FaultCollector()):
            labels[Path(cells["path"]).parent.name].add(cells["label"])
        if not labels:
            del formats["table"]
        elif any(len(labels[name]) > 1 for name in names) and all(map(names.isdisjoint, labels.values())):
            del formats["folders"]  # the names of the folders are not classes
    expected = f"{folders.first_split}/CLASS/*.jpg (folders named train, val or test are splits), "
    return choose_format(root, formats, f"{expected}or {root / TABLE} with the columns path and label")
