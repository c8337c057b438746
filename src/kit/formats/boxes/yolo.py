"""Read boxes from YOLO's files: a text file for each image, with a line `class x y width height` for each box.

x and y are the centre of the box. All four numbers are shares (fractions of the image's width and height). A line with
more numbers is a polygon, `class x1 y1 x2 y2 x3 y3 ...`, and is read as the bounding box of the polygon.
"""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities.rank_zero import rank_zero_only, rank_zero_warn

from kit.data.decode import EXTENSIONS
from kit.formats.boxes.annotation import Annotation, Box, Corners, Reading, missing_annotation, missing_image
from kit.formats.folders import SPLITS, files_in, images, split_folders, subfolder
from kit.formats.paths import Finder, compose, decompose, first_file
from kit.formats.text import joined_class_faults, number, read_lines, unreadable_fault
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.files import MAX_ANNOTATION_BYTES, MAX_CONFIG_BYTES, is_file
from kit.ground.terminal import escape
from kit.ground.yaml_files import read_yaml, read_yaml_as_text

MAX_CLASSES = 100_000  # larger class numbers are mistakes, and would fill the memory
# Files with a class name in each line, as labelImg, CVAT and others write them.
CLASS_FILES = ("classes.txt", "obj.names", "predefined_classes.txt")


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

    A YAML file or `obj.data` lists them. If there is neither, they are found by the names of folders: `images/train`,
    `train/images`, or one folder for all images, and a file of class names.

    Args:
        root: the folder of the data set, or its YAML file.
        names: the class names; needed if no file lists them.

    Raises:
        UserError: there are several YAML files, a file has a mistake, or nothing names the classes.
    """
    names = [name.strip() for name in names or ()]
    if root.is_file():
        return _listed_layout(root, names)
    files = files_in(root, {".yaml", ".yml"})
    yamls = [file for file in files if isinstance(content := read_yaml(file), dict) and "names" in content]
    if len(yamls) > 1:
        listed = ", ".join(path.name for path in yamls)
        raise UserError(f"several YAML files in {root} ({listed}); give one of them with --data.root {yamls[0]}")
    for file in (*yamls, root / "obj.data"):
        if file.is_file():
            return _listed_layout(file, names)
    inner = subfolder(root, "images") if subfolder(root, "images").is_dir() else root
    splits = {split: folder for parent in (inner, root) for split, folder in split_folders(parent).items() if folder}
    class_names = names or _listed_classes(root, splits.values())
    return Layout({split: images(folder) for split, folder in (splits or {"train": inner}).items()}, class_names)


def read(image_files: Sequence[Path], layout: Layout) -> Reading:
    """Read the text file of each image of a split."""
    annotations: list[Annotation] = []
    faults = joined_class_faults(layout.class_names, "")
    image_folders: dict[Path, set[Path]] = {}  # folder of text files -> folders of their images
    for image in image_files:
        if not is_file(image):
            faults.append(missing_image(image, "at this path, but a list names it"))
            continue
        text = _text_file(image)
        image_folders.setdefault(text.parent, set()).add(image.parent)
        annotation = Annotation(image, text, relative=True)
        if text.is_file():
            _parse(annotation, layout)
        else:
            faults.append(missing_annotation(image, "without a text file it counts as an image without objects"))
        annotations.append(annotation)
    for text_folder, folders in sorted(image_folders.items()):
        stems = {compose(path.stem) for folder in folders for path in files_in(folder, EXTENSIONS)}
        # Text files beside images are not reported, since they may be anything.
        for text in files_in(text_folder, {".txt"}) if text_folder not in folders else ():
            if compose(text.stem) not in stems and text.name not in CLASS_FILES:
                faults.append(missing_image(text, f"{text.stem}.* that belongs to it"))
    return Reading(annotations, layout.class_names, faults)


def _parse(annotation: Annotation, layout: Layout) -> None:
    """Add the boxes and faults in an annotation's text file to the annotation."""
    try:
        lines = list(read_lines(annotation.file, MAX_ANNOTATION_BYTES, longest=MAX_ANNOTATION_BYTES))
    except BrokenFiles as error:
        annotation.faults.append(unreadable_fault(annotation.file, error))
        return
    count = len(layout.class_names)
    for line_number, line in lines:
        try:
            label, *values = map(float, line.split())
        except ValueError:
            label, values = math.nan, []
        corners = _corners(values[:4] if layout.keypoints else values)
        if corners is None or not label.is_integer():
            why = f"'{line[:60]}' is neither a box, `class x y width height`, nor a polygon of 3 or more points"
            annotation.report("annotation-unreadable", why, line_number)
        elif not 0 <= label < count:
            why = f"class {label:.0f}, but there are {count} classes, 0 to {count - 1}"
            annotation.report("class-unknown", why, line_number)
        else:
            annotation.boxes.append(Box(corners, layout.class_names[int(label)], line=line_number))


def _corners(values: list[float]) -> Corners | None:
    """Convert the numbers of a line to XYXY, or return None if they are neither a box nor a polygon."""
    if not all(map(math.isfinite, values)) or len(values) < 4 or len(values) % 2:
        return None
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _text_file(image: Path) -> Path:
    """Return the path of an image's text file, or the first path where it could be if there is no such file.

    It is searched in the folder of the same path with `labels` for `images`, beside the image, and in a folder `labels`
    beside the image or beside the image's folder.
    """
    parts = image.parent.parts
    index = max((i for i, part in enumerate(parts) if part.lower() == "images"), default=None)
    labels = () if index is None else ("labels", "Labels")
    usual = [Path(*parts[:index], name, *parts[index + 1 :]) for name in labels]
    near = [image.parent, image.parent / "labels", image.parent.parent / "labels"]
    stems = dict.fromkeys([image.stem, compose(image.stem), decompose(image.stem)])
    texts = [folder / f"{stem}.txt" for folder in (*usual, *near) for stem in stems]
    return next(filter(is_file, texts), texts[0])


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
    for split, spellings in SPLITS.items():
        entry = next((content[name] for name in spellings if content.get(name)), [])
        entries = entry if isinstance(entry, list) else [entry]
        if not all(isinstance(path, str) for path in entries):
            raise UserError(f"{file}: {split} is {entry}, but must be a folder or a list of folders")
        listings = [_images_at(path, bases) for path in entries]
        missing = [path for path, paths in zip(entries, listings, strict=True) if paths is None]
        if missing and (split == "train" or len(missing) < len(entries)):
            raise UserError(f"{file}: {split} is {missing[0]}, but nothing is at {(bases[0] / missing[0]).absolute()}")
        if missing:  # exports may name splits that do not exist
            rank_zero_warn(f"{file}: no {split} images at {entry}")
        elif entries:
            splits[split] = [image for paths in listings for image in paths]
    if "train" not in splits:
        raise UserError(f"{file}: no `train`; give its folder there")
    return Layout(splits, class_names, "kpt_shape" in content)


def _class_names(file: Path, content: dict[str, Any]) -> list[str]:
    """Return the class names of a YAML file, from a list or from a mapping of numbers to names.

    If the mapping lacks a number, its class is named by the number. Names such as `yes` and `1.0` stay text.
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
    """Return the images in a folder, or those that a text file lists, or None if neither exists.

    Exports may write `../train/images` for `train/images`. A path that does not exist may be a path on another machine.
    Then the longest end of it that exists is used and printed. The end `images` is not used, since it may mean another
    split. Listed images that do not exist are included; `read` reports them.

    Args:
        entry: the path of the folder or the text file.
        bases: the folders that the path may be relative to. The last is the data set's folder.
    """
    relative = Path(entry.replace("\\", "/"))
    ends = [Path(*relative.parts[start:]) for start in range(1, len(relative.parts))]
    names = [str(relative).removeprefix("../"), relative, *(end for end in ends if str(end) != "images")]
    paths = [base / name for name in names for base in bases]
    path = next(filter(os.path.exists, paths), None)  # unlike `Path.exists`, False for too long a name
    if path is None:
        return None
    if path not in paths[: 2 * len(bases)]:
        rank_zero_only(print)(escape(f"{bases[-1]}: '{entry}' was found at another path, {path}"))
    if path.is_dir():
        return images(path)
    find_image = Finder(lambda: images(bases[-1]), [path.parent, *bases])
    listed = [find_image(line) or path.parent / line for _, line in read_lines(path)]
    find_image.report_other_paths(path)
    return listed


def _listed_classes(root: Path, splits: Iterable[Path]) -> list[str]:
    """Return the class names in a file of `CLASS_FILES` in `root`, in a split's folder, or in `labels/` there."""
    folders = [root, root / "labels", *splits, *(split / "labels" for split in splits)]
    if file := first_file(folders, CLASS_FILES):
        names = dict(read_lines(file, MAX_CONFIG_BYTES))
        if blank := set(range(1, 1 + max(names, default=1))) - names.keys():  # the next classes would get wrong numbers
            raise UserError(f"{file}:{min(blank)}: an empty line; each line must name a class")
        return list(names.values())
    raise UserError(f"nothing in {root} names the classes; add data.yaml or classes.txt, or give --data.names '[a, b]'")
