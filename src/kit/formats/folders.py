"""Find images and the splits of a data set by the names of folders, and report files that are not used.

A folder stands for a split if its name is one of `SPLITS`, as `valid`, or contains one with digits, as `train2017`.
"""

import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

from kit.data.decode import EXTENSIONS
from kit.ground.errors import UserError
from kit.ground.faults import Fault

SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}


def data_folder(root: str) -> Path:
    """Return the folder of a data set.

    Raises:
        UserError: `root` is not a folder.
    """
    if not Path(root).is_dir():
        what = f"{root} is a file" if Path(root).is_file() else f"no data folder at {Path(root).absolute()}"
        raise UserError(f"{what}; give the data's folder with --data.root FOLDER")
    return Path(root)


def split_folders(root: Path) -> dict[str, Path | None]:
    """Return the folder of each split in `root`, as `{"train": ..., "val": ..., "test": ...}`; see `folders_by_split`.

    Raises:
        UserError: several folders stand for the same split.
    """
    by_split = folders_by_split(root)
    for split, candidates in by_split.items():
        if len(candidates) > 1:
            names = " and ".join(f"{folder.name}/" for folder in candidates)
            raise UserError(f"{root}: {names} both stand for {split}; keep one of them there, or name it {split}")
    return {split: next(iter(candidates), None) for split, candidates in by_split.items()}


def folders_by_split(root: Path) -> dict[str, list[Path]]:
    """Return the folders in `root` that stand for each split: by an exact name, else by one with digits (`train2017`).

    Names with other words, as `coco_train`, count only if all folders in `root` are splits of one data set, since
    `bullet_train` may be a class.
    """
    inner = folders(root)
    by_split = {split: [f for f in inner if f.name.lower() in names] for split, names in SPLITS.items()}
    by_split = {split: exact or [f for f in inner if split_of(f.name) == split] for split, exact in by_split.items()}
    by_word = {split_in(folder.name): folder for folder in inner}
    if not any(by_split.values()) and "train" in by_word and None not in by_word and 1 < len(by_word) == len(inner):
        return {split: [by_word[split]] if split in by_word else [] for split in SPLITS}
    return by_split


def split_of(name: str) -> str | None:
    """Return the split that a whole name stands for, in any case and without digits: `Valid`, `train2017`, `val_2`."""
    words = _words(name)
    return next((split for split, names in SPLITS.items() if words and words <= set(names)), None)


def split_in(name: str) -> str | None:
    """Return the only split that a word of a name stands for, as in `instances_train2017`.

    It is None for `retrain` and for `train_and_val`.
    """
    splits = [split for split, names in SPLITS.items() if _words(name) & set(names)]
    return splits[0] if len(splits) == 1 else None


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", name.lower()))


def folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without hidden ones."""
    with os.scandir(folder) as entries:  # much faster than `Path.iterdir` for many files
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    for entry in visible:
        if entry.is_symlink():
            _warn_of_dead_link(Path(entry.path))
    return sorted(Path(entry.path) for entry in visible if entry.is_dir())


def subfolder(folder: Path, name: str) -> Path:
    """Return the path of a folder in a folder, in the case of letters that its name has on disk."""
    exact = folder / name
    if exact.is_dir() or not folder.is_dir():
        return exact
    return next((inner for inner in folders(folder) if inner.name.lower() == name.lower()), exact)


def images(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it, sorted; for links and hidden files see `files_below`."""
    return sorted(path for path in files_below(folder) if path.suffix.lower() in EXTENSIONS)


def files_below(folder: Path) -> Iterator[Path]:
    """Yield all files in a folder and below it, except hidden ones.

    Unlike `Path.rglob`, this follows links to folders. A folder to which several paths lead is listed once. A warning
    names each link that leads nowhere, unless it is named like an image.

    Raises:
        UserError: a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: the folder cannot be listed ({error.strerror})") from None

    listed = set[tuple[int, int]]()
    for current, inner, names in os.walk(folder, onerror=refuse, followlinks=True):
        status = Path(current).stat()
        if (status.st_dev, status.st_ino) in listed:
            inner.clear()
            continue
        listed.add((status.st_dev, status.st_ino))
        visible = (name for name in inner if not is_hidden(name))
        inner[:] = sorted(visible, key=lambda name: (Path(current, name).is_symlink(), name))  # links last
        for name in sorted(names):
            if not is_hidden(name):
                _warn_of_dead_link(Path(current, name))
                yield Path(current, name)


def _warn_of_dead_link(path: Path) -> None:
    """Warn if a path is a link that leads nowhere and may have led to a folder."""
    if path.suffix.lower() not in EXTENSIONS and path.is_symlink() and not path.exists():
        warnings.warn(f"{path}: the link leads nowhere; if it was a folder, its files are missing", stacklevel=3)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or is one that macOS or Synology's disk stations add."""
    return name.startswith(".") or name in ("__MACOSX", "@eaDir")


class FaultCollector:
    """Report a fault in the labels: raise it, or collect it in `faults` while `check` runs.

    faults: the list to collect faults in; None raises them.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] | None = None

    def __call__(self, kind: str, file: Path, message: str, line: int | None = None) -> None:
        """Report an error of a kind in a file.

        Raises:
            UserError: faults are not collected.
        """
        if self.faults is None:
            raise UserError(f"{file}{'' if line is None else f':{line}'}: {message}")
        self.faults.append(Fault(kind, "error", str(file), line, message))


def groups_by_name(paths: list[Path], pattern: str | None, report: FaultCollector | None = None) -> list[str] | None:
    """Return the group of each file: the first group of a regular expression, searched in the file's name.

    Args:
        pattern: the regular expression; None gives None.
        report: reports the names without a group; by default the first is raised.

    Raises:
        UserError: `pattern` is not a regular expression, or a name has no group and `report` raises.
    """
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group '{pattern}' is no regular expression: {error}") from None
    report, groups = report or FaultCollector(), list[str]()
    for path in paths:
        match = expression.search(path.name)
        group = match.group(1) if match and match.groups() else None
        if group is None:
            report("no-group", path, f"data.group '{pattern}' finds no group in the file name")
        groups.append(path.name if group is None else group)
    return groups


def images_beside_classes(folder: Path) -> Iterator[Fault]:
    """Yield a fault for each image that lies beside the class folders instead of in one of them."""
    for path in folder.iterdir():
        if path.suffix.lower() in EXTENSIONS and path.is_file():
            message = "in no class's folder, so it is not used; move it into its class's"
            yield Fault("annotation-missing", "warning", str(path), None, message)


def unused_files(folder: Path) -> Iterator[Fault]:
    """Yield a fault for each file in a folder and below it whose extension is not one of an image."""
    for path in files_below(folder):
        if path.is_file() and path.suffix.lower() not in EXTENSIONS:
            message = "not used, since its extension is not one of an image; convert it, or remove it"
            yield Fault("ignored-file", "warning", str(path), None, message)
