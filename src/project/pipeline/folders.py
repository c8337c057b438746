"""Folders of images, and the names that people give to the parts of a data set."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from project import UserError
from project.pipeline.decode import EXTENSIONS

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def data_folder(root: str) -> Path:
    """
    Raises:
        UserError: there is none.
    """
    if not Path(root).is_dir():
        raise UserError(f"no data folder at {Path(root).absolute()}; give yours with --data.root FOLDER")
    return Path(root)


def split_folders(root: Path) -> dict[str, Path | None]:
    """`{"train": ..., "val": ..., "test": ...}`: the folder of each part in `root`, in either case of letters."""
    named = {folder.name.lower(): folder for folder in folders(root)}
    return {split: next((named[name] for name in names if name in named), None) for split, names in SPLITS.items()}


def folders(folder: Path) -> list[Path]:
    """Those in a folder, sorted; hidden ones left out."""
    return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def images(folder: Path) -> list[Path]:
    """The image files in a folder and in those below it, sorted; hidden ones left out."""
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))


def groups_by_name(paths: Sequence[Path], pattern: str | None) -> list[str] | None:
    """The first group of a regular expression, searched in each file's name: what must stay together in a split."""
    if pattern is None:
        return None
    found = [re.search(pattern, path.name) for path in paths]
    for path, match in zip(paths, found, strict=True):
        if match is None or not match.groups():
            raise UserError(f"{path}: data.group '{pattern}' finds no group in the file name")
    return [match.group(1) for match in found if match]
