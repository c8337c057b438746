"""Folders of images, and the names that people give to the parts of a data set."""

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from kit.data.decode import EXTENSIONS
from kit.ground.errors import UserError

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
    if Path(root).is_file():
        raise UserError(f"{root} is a file; give the data's folder with --data.root FOLDER")
    if not Path(root).is_dir():
        raise UserError(f"no data folder at {Path(root).absolute()}; give yours with --data.root FOLDER")
    return Path(root)


def split_folders(root: Path) -> dict[str, Path | None]:
    """`{"train": ..., "val": ..., "test": ...}`: the folder of each part in `root`, see `folders_by_split`.

    Raises:
        UserError: several stand for the same part.
    """
    meant = folders_by_split(root)
    for split, several in meant.items():
        if len(several) > 1:
            named = " and ".join(f"{folder.name}/" for folder in several)
            raise UserError(f"{root}: {named} both stand for {split}; keep one of them there, or name it {split}")
    return {split: next(iter(found), None) for split, found in meant.items()}


def folders_by_split(root: Path) -> dict[str, list[Path]]:
    """The folders in `root` that stand for each part: by an exact name, else by one with digits, as `train2017`.

    Other words beside that, as of `coco_train`, say so only where all folders there are parts of one data set: for
    `bullet_train` may be a class.
    """
    there = folders(root)
    found = {split: [f for f in there if f.name.lower() in names] for split, names in SPLITS.items()}
    found = {split: exact or [f for f in there if split_of(f.name) == split] for split, exact in found.items()}
    parts = {split_in(folder.name): folder for folder in there}
    if not any(found.values()) and "train" in parts and None not in parts and 1 < len(parts) == len(there):
        return {split: [parts[split]] if split in parts else [] for split in SPLITS}
    return found


def split_of(name: str) -> str | None:
    """The part that a name stands for, either case of letters, digits aside: `Valid`, `train2017`, `val_2`."""
    words = _words(name)
    return next((split for split, names in SPLITS.items() if words and words <= set(names)), None)


def split_in(name: str) -> str | None:
    """The only part that words of a name stand for: `instances_train2017`; None for `retrain`, and `train_and_val`."""
    meant = [split for split, names in SPLITS.items() if _words(name) & set(names)]
    return meant[0] if len(meant) == 1 else None


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", name.lower()))


def folders(folder: Path) -> list[Path]:
    """Those in a folder, sorted; hidden ones left out."""
    there = [entry for entry in os.scandir(folder) if not _hidden(entry.name)]
    for entry in there:
        _warn_of_lost(entry)
    return sorted(Path(entry.path) for entry in there if entry.is_dir())


def images(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it, sorted; for links and hidden files see `files_below`."""
    return sorted(path for path in files_below(folder) if path.suffix.lower() in EXTENSIONS)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and below it, except hidden ones.

    Unlike `Path.rglob`, this follows links to folders. Each folder is listed once, even if several links lead to it: by
    its own path if it lies below `folder`. A warning names each link that leads nowhere and is not named as an image.

    Raises:
        UserError: a folder cannot be listed.
    """
    if not folder.is_dir():
        return
    waiting, waiting_links, listed = [folder], list[Path](), set[tuple[int, int]]()
    while waiting or waiting_links:
        current = waiting.pop() if waiting else waiting_links.pop()
        try:
            status = current.stat()
            if (status.st_dev, status.st_ino) in listed:
                continue
            listed.add((status.st_dev, status.st_ino))
            with os.scandir(current) as entries:
                backwards = sorted(entries, key=lambda entry: entry.name, reverse=True)
        except OSError as error:
            raise UserError(f"{current}: the folder cannot be listed ({error.strerror})") from None
        for entry in backwards:
            if _hidden(entry.name):
                continue
            if entry.is_dir():
                (waiting_links if entry.is_symlink() else waiting).append(Path(entry.path))
                continue
            _warn_of_lost(entry)
            yield Path(entry.path)


def _warn_of_lost(entry: os.DirEntry[str]) -> None:
    """Name a link that leads nowhere and may have been a folder."""
    if entry.is_symlink() and Path(entry.name).suffix.lower() not in EXTENSIONS and not Path(entry.path).exists():
        warnings.warn(f"{entry.path}: the link leads nowhere; if it was a folder, its files are missing", stacklevel=3)


def _hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or is one that Macs or Synology's disk stations add."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


def groups_by_name(paths: Sequence[Path], pattern: str | None) -> list[str] | None:
    """The first group of a regular expression, searched in each file's name: what must stay together in a split."""
    if pattern is None:
        return None
    expression = group_expression(pattern)
    found = [expression.search(path.name) for path in paths]
    for path, match in zip(paths, found, strict=True):
        if match is None or not match.groups():
            raise UserError(f"{path}: data.group '{pattern}' finds no group in the file name")
    return [match.group(1) for match in found if match]


def group_expression(pattern: str) -> re.Pattern[str]:
    """
    Raises:
        UserError: it is no regular expression.
    """
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group '{pattern}' is no regular expression: {error}") from None
