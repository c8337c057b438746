"""Find images and the splits of a data set by the names of folders, and report files that are not used.

A folder is for a split if its name is in `SPLIT_NAMES`, such as `valid`, or if digits are added, such as `train2017`.
"""

import os
import re
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.data.decode import EXTENSIONS
from kit.ground.errors import UserError
from kit.ground.faults import Fault, fault

SPLIT_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
# Files and folders that macOS, Windows, Linux and Synology's disk stations add, in lower case.
SYSTEM_NAMES = {"__macosx", "$recycle.bin", "system volume information", "lost+found", "@eadir", "#recycle"}
SYSTEM_NAMES |= {"thumbs.db", "ehthumbs.db", "desktop.ini"}
UNREADABLE = (".heic", ".heif", ".avif")  # extensions of photos that PIL, or some versions of it, cannot read
# Holds the path that the warning about HEIC and AVIF has named. The warning is given once for each data set.
_warned_about = set[str]()


def data_folder(root: str) -> Path:
    """Return the folder of a data set. After this call, the next HEIC or AVIF image is warned about again.

    Raises:
        UserError: `root` is not a folder.
    """
    if not Path(root).is_dir():
        problem = f"{root} is a file" if Path(root).is_file() else f"no data folder at {Path(root).absolute()}"
        raise UserError(f"{problem}; give the data's folder with --data.root FOLDER")
    _warned_about.clear()
    return Path(root)


def split_folders(root: Path) -> dict[str, Path | None]:
    """Return the folder of each split in `root`, found by `folders_by_split`; None for a split without a folder.

    Raises:
        UserError: several folders are for the same split.
    """
    by_split = folders_by_split(root)
    for split, candidates in by_split.items():
        if len(candidates) > 1:
            names = " and ".join(f"{folder.name}/" for folder in candidates)
            raise UserError(f"{root}: {names} both stand for {split}; keep only one of them in this folder")
    return {split: next(iter(candidates), None) for split, candidates in by_split.items()}


def folders_by_split(root: Path) -> dict[str, list[Path]]:
    """Return the folders of each split in `root`.

    Names with digits (`train2017`) count only if there is no exact name (`train`). Names with other words
    (`coco_train`) count only if no other name counts, and if each folder in `root` (at least two) contains the name of
    a different split, one of them train: `bullet_train` may be a class.
    """
    all_folders = folders(root)
    exact = {split: [f for f in all_folders if f.name.lower() in names] for split, names in SPLIT_NAMES.items()}
    by_split = {split: exact[split] or [f for f in all_folders if split_of(f.name) == split] for split in SPLIT_NAMES}
    by_word = {split_in(folder.name): folder for folder in all_folders}
    has_one_each = None not in by_word and 1 < len(by_word) == len(all_folders)
    if not any(by_split.values()) and "train" in by_word and has_one_each:
        return {split: [by_word[split]] if split in by_word else [] for split in SPLIT_NAMES}
    return by_split


def split_of(name: str) -> str | None:
    """Return the split that a name means if it has no other words (`Valid`, `train2017`, `val_2`), or else None."""
    words = _words(name)
    return next((split for split, names in SPLIT_NAMES.items() if words and words <= set(names)), None)


def split_in(name: str) -> str | None:
    """Return the split that a name contains as one of its words (`instances_train2017`).

    Return None if it contains no split (`retrain`) or more than one (`train_and_val`).
    """
    splits = [split for split, names in SPLIT_NAMES.items() if _words(name) & set(names)]
    return splits[0] if len(splits) == 1 else None


def _words(name: str) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", name.lower()))


def folders(folder: Path) -> list[Path]:
    """Return the visible folders in a folder, sorted. Links to folders are included."""
    return sorted(map(Path, _contents(folder)[0]))


def files_in(folder: Path, extensions: Collection[str]) -> list[Path]:
    """Return the visible files in a folder whose extension, in lower case, is one of `extensions`, sorted.

    The result is empty if there is no such folder.
    """
    files = map(Path, _contents(folder)[1] if folder.is_dir() else ())
    return sorted(file for file in files if file.suffix.lower() in extensions and file.is_file())


def subfolder(folder: Path, name: str) -> Path:
    """Return the path of the folder `name`, in upper or lower case, in another folder. It need not exist."""
    exact_path = folder / name
    if exact_path.is_dir() or not folder.is_dir():
        return exact_path
    return next((child for child in folders(folder) if child.name.lower() == name.lower()), exact_path)


def images(folder: Path) -> list[Path]:
    """Return the image files in a folder and below it, sorted; see `paths_below`."""
    return sorted(path for path in map(Path, paths_below(folder)) if path.suffix.lower() in EXTENSIONS)


def paths_below(folder: Path) -> Iterator[str]:
    """Yield all visible files in a folder and below it. A folder is listed once, even if several links lead to it.

    Raises:
        UserError: a folder cannot be listed.
    """
    pending, visited = [folder], set[tuple[int, int]]()  # folders to list; device and inode of listed folders
    while pending:
        current = pending.pop()
        with _listing(current):
            status = current.stat()
        if (status.st_dev, status.st_ino) not in visited:
            visited.add((status.st_dev, status.st_ino))
            children, files = _contents(current)
            # Links come after the folders beside them, so that files have paths without links if possible.
            pending += sorted(map(Path, children), key=lambda path: (path.is_symlink(), path), reverse=True)
            yield from sorted(files)


def _contents(folder: Path) -> tuple[list[str], list[str]]:
    """Return the paths of the visible folders and files in a folder, unsorted.

    Warn about the first HEIC or AVIF image of a data set. A broken link is left out with a warning, unless it has an
    image's extension: such a link is kept, and reported when the image is read.

    Raises:
        UserError: the folder cannot be listed.
    """
    subfolders, files = list[str](), list[str]()
    with _listing(folder), os.scandir(folder) as entries:  # much faster than `Path.iterdir` for many files
        visible = [entry for entry in entries if not is_hidden(entry.name)]
    image = next((entry.path for entry in visible if entry.name.lower().endswith(UNREADABLE)), None)
    if image and not _warned_about:
        _warned_about.add(image)
        warnings.warn(f"{image}: HEIC and AVIF images, such as this, are not used; convert them to JPEG", stacklevel=3)
    for entry in visible:
        link = Path(entry) if entry.is_symlink() else None
        if link and not link.exists() and link.suffix.lower() not in EXTENSIONS:
            warnings.warn(f"{link}: the link is broken; if it led to a folder, its files are missing", stacklevel=3)
        else:
            (subfolders if (link or entry).is_dir() else files).append(entry.path)
    return subfolders, files


@contextmanager
def _listing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: the folder cannot be listed ({error.strerror})") from None


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, or was added by an operating system."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


class FaultCollector:
    """Report faults in labels: raise an error at the first fault, or collect all faults while `check` runs.

    faults: the collected faults; None while each fault raises an error.
    """

    def __init__(self) -> None:
        self.faults: list[Fault] | None = None

    def __call__(self, kind: str, file: Path, message: str, line: int | None = None) -> None:
        """Report a fault of the given kind in a file.

        Raises:
            UserError: faults are not collected.
        """
        if self.faults is None:
            raise UserError(f"{file}{'' if line is None else f':{line}'}: {message}")
        self.faults.append(fault(kind, file, message, line))

    def collect(self, read: Callable[[], object]) -> Iterator[Fault]:
        """Call `read`, and yield the faults that it reports. An error of `read` is raised after the last fault.

        After this call, faults are still collected and raise no error, so that `check` can go on with the usable data.
        """
        self.faults = []
        try:
            read()
        finally:
            yield from self.faults


def groups_by_name(paths: list[Path], pattern: str | None, report: FaultCollector | None = None) -> list[str] | None:
    """Return the group of each file: the text that the first capture group of `pattern` matches in the file's name.

    Args:
        pattern: the regular expression. If it is None, None is returned.
        report: reports each name without a group. By default, such a name raises an error.

    Raises:
        UserError: `pattern` is not a regular expression, or a name has no group and faults are not collected.
    """
    if pattern is None:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        raise UserError(f"data.group '{pattern}' is not a regular expression: {error}") from None
    report, groups = report or FaultCollector(), list[str]()
    for path in paths:
        match = expression.search(path.name)
        group = match.group(1) if match and match.groups() else None
        if group is None:
            report("no-group", path, f"data.group '{pattern}' finds no group in the file name")
        groups.append(path.name if group is None else group)
    return groups


def unused_files(folder: Path) -> Iterator[Fault]:
    """Yield a fault for each file in a folder and below it that does not have an image's extension."""
    for path in map(Path, paths_below(folder)):
        if path.is_file() and path.suffix.lower() not in EXTENSIONS:
            yield fault("ignored-file", path, "not used: it has no image's extension; convert it, or remove it")
