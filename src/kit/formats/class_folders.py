"""Read images from a folder for each class: `root/train|val|test/CLASS/*.jpg`, or `root/CLASS/*.jpg` without splits.

These folders may lie in the only folder of the root, as in an unpacked archive. A class has the name of its folder.
"""

import os
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from kit.data.decode import EXTENSIONS
from kit.formats.folders import FaultCollector, files_in, folders, images, split_folders, unused_files
from kit.formats.text import joined_class_faults
from kit.ground.errors import UserError, did_you_mean
from kit.ground.faults import Fault

MAX_NAMED = 5  # class names in a message


class ClassFolders:
    """The class folders of a data set.

    root: the folder that holds the splits or the classes.
    splits: the folder of each split, or None. Without splits, `root` is the folder of train.
    first_split: the folder of train, or of the first split if there is no train.
    report_fault: reports class folders that cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.report_fault = _innermost(root), FaultCollector()
        self.images = cache(images)  # so that each folder is searched once
        self.splits = split_folders(self.root)
        if not any(self.splits.values()):
            self.splits["train"] = self.root
        self.first_split = next(folder for folder in self.splits.values() if folder is not None)
        names = {class_name(folder) for folder in folders(self.first_split)}
        for folder in folders(self.root) if self.first_split != self.root else ():
            if folder not in self.splits.values() and names.intersection(map(class_name, folders(folder))):
                message = "not used, since its name is none of train, val and test; rename or remove it"
                warnings.warn(f"{folder}: {message}", stacklevel=1)

    def classes(self, parent: Path) -> list[tuple[str, Path]]:
        """Return the class names and the class folders in the folder of a split. Some may have the same name."""
        return [(class_name(folder), folder) for folder in folders(parent)]

    def names(self) -> list[str]:
        """Return the class names in train, or in the first split if there is no train."""
        return list(dict.fromkeys(name for name, _ in self.classes(self.first_split)))

    def examples(self) -> list[Path]:
        """Return all images of the classes in `names`."""
        return [file for _, folder in self.classes(self.first_split) for file in self.images(folder)]

    def read(self, split: str, class_names: Sequence[str]) -> tuple[list[Path], list[int]] | None:
        """Return the images of a split and their class numbers; None if there is no folder, or no known class in it.

        Raises:
            UserError: there are no images, or faults are not collected and a class is unknown or has no images.
        """
        parent, paths, targets = self.splits[split], list[Path](), list[int]()
        if parent is None:
            return None
        classes = self.classes(parent)
        numbers = {_normal_form(name): number for number, name in enumerate(class_names)}
        used = [name for name, folder in classes if self.images(folder)]
        if not used:
            raise UserError(f"no images in {parent}; expected {parent}/CLASS/*.jpg (or .png, .webp, .tif, ...)")
        if not any(name in numbers for name in used):
            others, known = (", ".join(names[:MAX_NAMED]) for names in (used, class_names))
            message = f"none of its classes ({others}) is a class of the training data ({known})"
            self.report_fault("class-unknown", parent, message)
            return None
        for name, folder in classes:
            files = self.images(folder)
            if name not in numbers:
                hint = did_you_mean(name, numbers)
                self.report_fault("class-unknown", folder, f"training has no class '{name}'{hint}")
            elif not files and split == "train":
                self.report_fault("class-empty", folder, "no images of this class; add some, or remove the folder")
            else:
                paths += files
                targets += [numbers[name]] * len(files)
        return paths, targets

    def unused(self) -> Iterator[Fault]:
        """Yield the faults of images beside the class folders, other files in them, and folders of one class name."""
        parents = [folder for folder in self.splits.values() if folder is not None]
        class_folders = [folder for parent in parents for _, folder in self.classes(parent)]
        for parent in {self.root, *parents}.difference(class_folders):
            for path in files_in(parent, EXTENSIONS):
                message = "not in a class folder, so it is not used; move it into one"
                yield Fault("annotation-missing", "warning", str(path), None, message)
        for folder in class_folders:
            yield from unused_files(folder)
        for parent in parents:
            yield from joined_class_faults((name for name, _ in self.classes(parent)), parent)


def class_name(folder: Path) -> str:
    r"""Return a folder's name as text: composed characters, no blanks around it, and `\xe9` for a byte not in UTF-8."""
    return _normal_form(os.fsencode(folder.name).decode("utf-8", "backslashreplace"))


def _normal_form(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip()


def _innermost(root: Path) -> Path:
    """Return the folder in `root` that holds the splits or classes: its only folder if that contains only folders."""
    inner = folders(root)
    if len(inner) != 1 or any(split_folders(root).values()) or files_in(root, EXTENSIONS):
        return root
    return _innermost(inner[0]) if folders(inner[0]) and not files_in(inner[0], EXTENSIONS) else root
