"""Folders of images, and the names that people give to the parts of a data set."""

import os
from pathlib import Path

from project.pipeline.decode import EXTENSIONS

SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


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
