"""Read images from a folder for each class: `root/train|val|test/CLASS/*.jpg`, or `root/CLASS/*.jpg` without splits.

The root may also contain a single folder that holds these folders, as an unpacked archive does. The name of a class is
the name of its folder.
"""

import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from kit.data.decode import EXTENSIONS
from kit.formats.folders import FaultCollector, files_in, folders, groups_by_name, images, split_folders, unused_files
from kit.formats.paths import compose
from kit.formats.text import joined_class_faults
from kit.ground.errors import UserError, did_you_mean
from kit.ground.faults import Fault, fault

# The message about a folder beside the folders of the splits.
NOT_USED = "not used, since its name is none of train, val and test; rename or remove it"


class ClassFolders:
    """The class folders of a data set.

    Args:
        root: the folder of the data set.
        group: a regular expression that finds the group of an image in its file name, see `groups_by_name`.

    Attributes:
        root: the folder that holds the splits or the classes.
        splits: the folder of each split, or None. If no split has a folder, `root` is the folder of train.
        first_split: the folder of train or, if there is none, of val or test.
        source: `first_split`, for error messages.
        report_fault: the function that reports class folders that cannot be used.
        images: the function that returns the images in a class folder, and caches them.
    """

    def __init__(self, root: Path, group: str | None = None) -> None:
        self.root, self.group, self.report_fault = _innermost(root), group, FaultCollector()
        self.images = cache(images)
        self.splits = split_folders(self.root)
        if not any(self.splits.values()):
            self.splits["train"] = self.root
        self.source = self.first_split = next(folder for folder in self.splits.values() if folder is not None)

    def warn_about_other_folders(self) -> None:
        """Warn about each folder in `root` that is no split, but holds a folder with the name of a class."""
        names = set(self.names())
        for folder in self.other_folders():
            if names.intersection(map(class_name, folders(folder))):
                warnings.warn(f"{folder}: {NOT_USED}", stacklevel=1)

    def other_folders(self) -> list[Path]:
        """Return the folders beside the splits' folders. The images in them are not used."""
        candidates = folders(self.root) if self.first_split != self.root else []
        return [folder for folder in candidates if folder not in self.splits.values()]

    def classes(self, parent: Path) -> list[tuple[str, Path]]:
        """Return (class name, class folder) for each folder in a split's folder. Names may occur twice."""
        return [(class_name(folder), folder) for folder in folders(parent)]

    def has_several_labels(self) -> bool:
        return False

    def names(self, several_labels: bool = False) -> list[str]:
        """Return the class names in `first_split`, each once."""
        return list(dict.fromkeys(name for name, _ in self.classes(self.first_split)))

    def examples(self) -> list[Path]:
        """Return all images in the class folders of `first_split`."""
        return [file for _, folder in self.classes(self.first_split) for file in self.images(folder)]

    def read(
        self, split: str, class_names: Sequence[str], several_labels: bool = False
    ) -> tuple[list[Path], Tensor, list[str] | None] | None:
        """Return the images of a split, their class numbers, Long[N], and their groups.

        The result is None if the split has no folder, or no image of a known class.

        Args:
            class_names: the names of the classes 0, 1, 2, ...
            several_labels: whether the model was trained on images with several labels.

        Raises:
            UserError: there are no images, or `several_labels` is True. If `report_fault` does not collect faults,
                also: a class is unknown, or has no training images, or a file name has no group.
        """
        parent, paths, targets = self.splits[split], list[Path](), list[int]()
        if parent is None:
            return None
        if several_labels:
            raise UserError(f"{parent}: the model is for images with several labels: give a table, not class folders")
        classes = self.classes(parent)
        numbers = {compose(name).strip(): number for number, name in enumerate(class_names)}
        if not any(self.images(folder) for _, folder in classes):
            raise UserError(f"no images in {parent}; expected {parent}/CLASS/*.jpg (or .png, .webp, .tif, ...)")
        for name, folder in classes:
            files = self.images(folder)
            if name not in numbers:
                message = f"training has no class '{name}'{did_you_mean(name, numbers)}"
                self.report_fault("class-unknown", folder, message)
            elif not files and split == "train":
                self.report_fault("class-empty", folder, "no images of this class; add some, or remove the folder")
            else:
                paths += files
                targets += [numbers[name]] * len(files)
        groups = groups_by_name(paths, self.group, self.report_fault)
        return (paths, torch.tensor(targets), groups) if paths else None

    def unused(self) -> Iterator[Fault]:
        """Yield the faults: images outside class folders, unused files in them, and classes with several folders."""
        parents = [folder for folder in self.splits.values() if folder is not None]
        class_folders = [folder for parent in parents for _, folder in self.classes(parent)]
        for parent in {self.root, *parents}.difference(class_folders):
            for path in files_in(parent, EXTENSIONS):
                yield fault("annotation-missing", path, "not in a class folder, so it is not used; move it into one")
        for folder in class_folders:
            yield from unused_files(folder)
        for parent in parents:
            yield from joined_class_faults((name for name, _ in self.classes(parent)), parent)


def class_name(folder: Path) -> str:
    r"""Return a folder's name with composed accents, and without blanks around it.

    A byte that is not UTF-8 becomes four characters, such as `\xe9`.
    """
    return compose(os.fsencode(folder.name).decode("utf-8", "backslashreplace")).strip()


def _innermost(root: Path) -> Path:
    """Return the folder that holds the splits or classes: `root`, or a folder inside it.

    If a folder holds a single folder, the search goes on in this subfolder, unless it is a split or holds no folders,
    or one of the two folders holds images.
    """
    subfolders = folders(root)
    if len(subfolders) != 1 or any(split_folders(root).values()) or files_in(root, EXTENSIONS):
        return root
    return _innermost(subfolders[0]) if folders(subfolders[0]) and not files_in(subfolders[0], EXTENSIONS) else root
