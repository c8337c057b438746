"""Find the images of each split and the class names of a data set in YOLO's format."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

from kit.data.decode import EXTENSIONS
from kit.formats.folders import SPLIT_NAMES, files_in, folders, images, split_folders, subfolder
from kit.formats.paths import Finder, first_file
from kit.formats.text import number, read_lines
from kit.ground.errors import UserError
from kit.ground.files import MAX_CONFIG_BYTES, read_ends
from kit.ground.terminal import escape
from kit.ground.yaml_files import read_yaml, read_yaml_as_text

MAX_CLASSES = 100_000  # larger class numbers are mistakes, and would fill the memory
# Files with a class name in each line, as labelImg, CVAT and others write them.
CLASS_FILES = ("classes.txt", "obj.names", "predefined_classes.txt")
NAMES = re.compile(rb"""\bnames["']?\s*:""")  # the key of the class names in a YAML file


class Layout(NamedTuple):
    """The images of each split of a data set, and its classes.

    class_names: the names of the classes 0, 1, 2, ...
    keypoints: True if each line has keypoints after its box. Then no line is a polygon.
    """

    splits: dict[str, list[Path]]
    class_names: list[str]
    keypoints: bool = False


def find(root: Path, names: Sequence[str] | None = None) -> Layout:
    """Find the images of each split and the class names.

    A YAML file or `obj.data` lists them. If there is neither, a text file lists the class names, and the images of a
    split are in, for example, `images/train` or `train/images`. Without such folders, all images are for train. If
    `root` holds a single folder and neither images nor text files, that folder is searched.

    Args:
        root: the folder of the data set, or its YAML file.
        names: the class names; needed if no file lists them.

    Raises:
        UserError: there are several YAML files, a file has a mistake, or nothing names the classes.
    """
    names = [name.strip() for name in names or ()]
    if root.is_file():
        return _listed_layout(root, names)
    if len(files := dataset_files(root)) > 1:
        listed = ", ".join(path.name for path in files)
        raise UserError(f"several YAML files in {root} ({listed}); give one of them with --data.root {files[0]}")
    if files:
        return _listed_layout(files[0], names)
    base = subfolder(root, "images") if subfolder(root, "images").is_dir() else root
    found = {split: folder for parent in (base, root) for split, folder in split_folders(parent).items() if folder}
    splits = {split: found[split] for split in SPLIT_NAMES if split in found}
    if not splits and base == root and len(inside := folders(root)) == 1 and not files_in(root, {*EXTENSIONS, ".txt"}):
        # unpacking an archive often creates one folder around the data set
        return find(inside[0], names)
    class_names = names or _listed_classes(root, splits.values())
    return Layout({split: images(folder) for split, folder in (splits or {"train": base}).items()}, class_names)


def dataset_files(root: Path) -> list[Path]:
    """Return the YAML files in a folder that have a key `names`, or else `obj.data` if it exists."""
    yamls = [file for file in files_in(root, {".yaml", ".yml"}) if NAMES.search(read_ends(file, MAX_CONFIG_BYTES))]
    return yamls or [file for file in [root / "obj.data"] if file.is_file()]


def _listed_layout(file: Path, names: list[str]) -> Layout:
    """Find the images and classes that a YAML file, or CVAT's `obj.data` with lines `key = value`, lists."""
    if file.suffix == ".data":
        settings = [line.partition("=") for _, line in read_lines(file)]
        content = {key.strip().lower(): value.strip() for key, _, value in settings}
        class_names = names or _listed_classes(file.parent, [])
    else:
        content = read_yaml(file)
        if not isinstance(content, dict) or "names" not in content:
            raise UserError(f"{file}: no `names`; give the classes there")
        class_names = names or _class_names(file, content)
    bases = [file.parent / str(content["path"]), file.parent] if content.get("path") else [file.parent]
    splits: dict[str, list[Path]] = {}
    for split, spellings in SPLIT_NAMES.items():
        entry = next((content[name] for name in spellings if content.get(name)), [])
        entries = entry if isinstance(entry, list) else [entry]
        if not all(isinstance(path, str) for path in entries):
            raise UserError(f"{file}: {split} is {entry}, but must be a folder or a list of folders")
        image_lists = [_images_at(path, bases) for path in entries]
        missing = [path for path, paths in zip(entries, image_lists, strict=True) if paths is None]
        if missing and (split == "train" or len(missing) < len(entries)):
            raise UserError(f"{file}: {split} is {missing[0]}, but nothing is at {(bases[0] / missing[0]).absolute()}")
        if missing:  # exports may name splits that do not exist
            rank_zero_warn(f"{file}: no {split} images at {entry}")
        elif entries:
            splits[split] = [image for paths in image_lists for image in paths]
    if "train" not in splits:
        raise UserError(f"{file}: no `train`; give its folder there")
    return Layout(splits, class_names, "kpt_shape" in content)


def _class_names(file: Path, content: dict[str, Any]) -> list[str]:
    """Return the class names of a YAML file, from a list or from a mapping of numbers to names.

    If the mapping lacks a number, the number is the name of its class. Names such as `yes` and `1.0` stay text.
    """
    names = read_yaml_as_text(file)["names"]
    if isinstance(names, dict) and names and all(key.isdecimal() for key in names):
        by_number = {int(key): name for key, name in names.items()}
        if max(by_number) >= MAX_CLASSES:
            raise UserError(f"{file}: names has the class number {max(by_number)}; give numbers below {MAX_CLASSES:,}")
        names = [by_number.get(i, str(i)) for i in range(1 + max(by_number))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name.strip() for name in names):
        expected = "a list, [cat, dog], or by number, {0: cat, 1: dog}"
        raise UserError(f"{file}: names is {content['names']!r}, but must be {expected}")
    if content.get("nc") is not None and number(content["nc"]) != len(names):
        raise UserError(f"{file}: nc is {content['nc']}, but there are {len(names)} names; which is right?")
    return [name.strip() for name in names]


def _images_at(entry: str, bases: list[Path]) -> list[Path] | None:
    """Return the images in a folder, or the images that a text file lists, or None if neither exists.

    Exports may write `../train/images` for `train/images`. A path that does not exist may be a path on another machine.
    Then drop leading folders until the rest of the path exists, and print the path that is used. Do not use `images`
    alone, since it may be another split's folder. Listed images that do not exist are included. `YoloBoxes.read`
    reports them.

    Args:
        entry: the path of the folder or the text file.
        bases: the folders that the path may be relative to. The last is the data set's folder.
    """
    relative = Path(entry.replace("\\", "/"))
    ends = [Path(*relative.parts[start:]) for start in range(1, len(relative.parts))]
    candidates = [str(relative).removeprefix("../"), relative, *(end for end in ends if str(end) != "images")]
    paths = [base / candidate for candidate in candidates for base in bases]
    path = next(filter(os.path.exists, paths), None)  # `Path.exists` raises an error if a name is too long
    if path is None:
        return None
    if path not in paths[: 2 * len(bases)]:  # neither of the first two candidates
        rank_zero_only(print)(escape(f"{bases[-1]}: '{entry}' was found at another path, {path}"))
    if path.is_dir():
        return images(path)
    lines = [line for _, line in read_lines(path)]
    find_image = Finder(lambda: images(bases[-1]), [path.parent, *bases], lines)
    listed = [find_image(line) or path.parent / line for line in lines]
    find_image.report_other_paths(path)
    return listed


def _listed_classes(root: Path, splits: Iterable[Path]) -> list[str]:
    """Return the class names in a file of `CLASS_FILES`: in `root`, a split's folder, or `labels/` in one of these."""
    folders = [root, root / "labels", *splits, *(split / "labels" for split in splits)]
    if file := first_file(folders, CLASS_FILES):
        names = dict(read_lines(file, MAX_CONFIG_BYTES))
        if blank := set(range(1, 1 + max(names, default=1))) - names.keys():  # later classes would get wrong numbers
            raise UserError(f"{file}:{min(blank)}: an empty line; each line must name a class")
        return list(names.values())
    raise UserError(f"nothing in {root} names the classes; add data.yaml or classes.txt, or give --data.names '[a, b]'")
