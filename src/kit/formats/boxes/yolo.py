"""Read boxes from YOLO's files: a text file for each image, with a line `class x y width height` for each box.

Positions and sizes are shares of the image. A line with more numbers is a polygon, `class x1 y1 x2 y2 x3 y3 ...`, and
becomes its bounding box.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from kit.data.decode import EXTENSIONS
from kit.formats.boxes.annotation import Annotation, Box, Reading, missing_annotation, missing_image, unreadable
from kit.formats.coco import whole_number
from kit.formats.folders import SPLITS, folders, images, split_folders
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault, fault
from kit.ground.files import MAX_ANNOTATION_BYTES, MAX_CONFIG_BYTES, MAX_LIST_BYTES, read_text
from kit.ground.yaml_files import read_yaml, read_yaml_as_text

MAX_CLASSES = 100_000  # a larger class number is a mistake, or an attack on memory
CLASS_FILES = ("classes.txt", "obj.names", "predefined_classes.txt")
FARTHEST = 2  # shares of the image's side: a value farther out is in pixels, and a nearer box is clipped
NO_LABELS = {*CLASS_FILES, "notes.txt", "readme.txt", "readme.roboflow.txt", "readme.dataset.txt"}


class Layout(NamedTuple):
    """Where the images of a data set are, and what its classes are.

    splits: the images of each split.
    keypoints: whether a line has points after its box, and so is no polygon.
    """

    splits: dict[str, list[Path]]
    class_names: list[str]
    keypoints: bool = False


def find(root: Path, names: Sequence[str] | None = None) -> Layout:
    """Find the images and classes: by `data.yaml`, else by `obj.data`, else by folders.

    The folders are `images/train` or `train/images`, or one folder for all images.

    Args:
        root: the folder, or its YAML file.
        names: the class names; needed if no file lists them.
    """
    if root.is_file():
        return _layout_of_yaml(root, names)
    yamls = [path for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]) if _is_layout(path)]
    if len(yamls) > 1:
        listed = ", ".join(path.name for path in yamls)
        raise UserError(f"several YAML files in {root} ({listed}); give one of them with --data.root {yamls[0]}")
    if yamls:
        return _layout_of_yaml(yamls[0], names)
    if (root / "obj.data").is_file():
        return _layout_of_darknet(root / "obj.data", names)
    inside = {folder.name.lower(): folder for folder in folders(root)}
    image_folder = inside.get("images", root)
    splits = {split: folder for split, folder in split_folders(root).items() if folder is not None}
    splits = splits or {split: folder for split, folder in split_folders(image_folder).items() if folder is not None}
    class_names = list(names) if names is not None else _listed_classes(root, splits.values())
    images_by_split = {split: images(folder) for split, folder in splits.items()}
    return Layout(images_by_split or {"train": images(image_folder)}, class_names)


def read(pictures: Sequence[Path], layout: Layout) -> Reading:
    """Read the text files of a split's images."""
    annotations: list[Annotation] = []
    repeated = [name for name, count in Counter(map(str.strip, layout.class_names)).items() if count > 1]
    message = "several classes are named '{}', and become one class"
    faults = [fault("class-joined", "", message.format(name)) for name in repeated]
    image_folders: dict[Path, set[Path]] = {}  # by the folder of the text files
    _label_folder.cache_clear()  # folders may have been moved since the last time
    for image in pictures:
        if not image.is_file():
            faults.append(missing_image(image, None, "though it is listed"))
            continue
        text = _text_file(image)
        image_folders.setdefault(text.parent, set()).add(image.parent)
        annotation = Annotation(image, text, relative=True)
        if text.is_file():
            _parse(text, annotation, layout, faults)
        else:
            faults.append(missing_annotation(image, "without a text file it counts as an image without objects"))
        annotations.append(annotation)
    for folder, beside in sorted(image_folders.items()):
        stems = {path.stem for other in beside for path in other.iterdir() if path.suffix.lower() in EXTENSIONS}
        for text in sorted(folder.glob("*.txt")):
            if text.stem not in stems and text.name.lower() not in NO_LABELS and _has_boxes(text):
                faults.append(missing_image(text, None, f"{text.stem}.* that belongs to it"))
    return Reading(annotations, layout.class_names, faults)


def _parse(text: Path, annotation: Annotation, layout: Layout, faults: list[Fault]) -> None:
    try:
        lines = read_text(text, MAX_ANNOTATION_BYTES).splitlines()
    except BrokenFiles as error:
        faults.append(unreadable(text, None, str(error).removeprefix(f"{text}: ")))
        return
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = [float(word) for word in line.split()]
            if not values[0].is_integer():
                raise ValueError
        except ValueError:
            why = f"'{line.strip()[:60]}' is not `class x y width height`"
            faults.append(annotation.fault("annotation-unreadable", "error", number, why))
            continue
        label, values = int(values[0]), values[1:5] if layout.keypoints else values[1:]
        box = _box(values)
        classes = f"{len(layout.class_names)} classes, 0 to {len(layout.class_names) - 1}"
        if box is None or not all(map(math.isfinite, values)):
            why = f"{len(values)} numbers after the class; a box has 4 finite ones, a polygon 6 or more"
            faults.append(annotation.fault("annotation-unreadable", "error", number, why))
        elif not 0 <= label < len(layout.class_names):
            faults.append(annotation.fault("class-unknown", "error", number, f"class {label}, but there are {classes}"))
        elif (furthest := max(values, key=lambda value: abs(value - 0.5))) > FARTHEST or furthest < 1 - FARTHEST:
            why = f"a value of {furthest:g}: all are shares of the image's width or height, 0 to 1; left out"
            faults.append(annotation.fault("box-wrong-unit", "error", number, why))
        else:
            annotation.add(box, layout.class_names[label], line=number)


def _box(values: list[float]) -> Box | None:
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    if len(values) >= 6 and len(values) % 2 == 0:
        return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
    return None


def _text_file(image: Path) -> Path:
    """Return the text file of an image: in `labels/` instead of `images/`, beside the image, or in a `labels/` near it.

    If there is none, return the first of these paths.
    """
    usual = _label_folder(image.parent) / f"{image.stem}.txt"
    others = [image.with_suffix(".txt"), *(f / "labels" / f"{image.stem}.txt" for f in image.parents[:2])]
    return next((text for text in (usual, *others) if text.is_file()), usual)


@cache
def _label_folder(folder: Path) -> Path:
    """Return the folder with `labels` instead of the last `images`, in the case of letters that it has on disk.

    So `Images/TRAIN` gives `labels/train` or `Labels/train`. A path without `images` is returned as it is.
    """
    parts = [part.lower() for part in folder.parts]
    if "images" not in parts:
        return folder
    index = len(parts) - 1 - parts[::-1].index("images")
    result = Path(*folder.parts[:index])
    for name in ("labels", *folder.parts[index + 1 :]):
        matches = [f.name for f in folders(result) if f.name.lower() == name.lower()] if result.is_dir() else []
        result /= name if name in matches or not matches else matches[0]
    return result


def _has_boxes(text: Path) -> bool:
    try:
        first = read_text(text, MAX_ANNOTATION_BYTES).split(maxsplit=1)[:1]
    except BrokenFiles:
        return False
    return bool(first) and first[0].isdigit()


def _is_layout(path: Path) -> bool:
    return isinstance(content := read_yaml(path), dict) and "names" in content


def _layout_of_yaml(file: Path, names: Sequence[str] | None) -> Layout:
    content = read_yaml(file)
    if not _is_layout(file):
        raise UserError(f"{file}: no `names`; give the classes there")
    class_names = list(names) if names is not None else _class_names(file, content)
    bases = [file.parent / str(content["path"]), file.parent] if content.get("path") else [file.parent]
    splits: dict[str, list[Path]] = {}
    for split, spellings in SPLITS.items():
        entry = next((content[name] for name in spellings if content.get(name)), None)
        if entry is None:
            continue
        entries = entry if isinstance(entry, list) else [entry]
        if not all(isinstance(path, str) for path in entries):
            raise UserError(f"{file}: {split} is {entry}, but must be a folder or a list of folders")
        found = [_images_at(path, bases) for path in entries]
        if all(paths is None for paths in found) and split != "train":  # exports name all splits, even missing ones
            rank_zero_warn(f"{file}: no {split} images at {entry}")
            continue
        for path, paths in zip(entries, found, strict=True):
            if paths is None:
                raise UserError(f"{file}: {split} is {path}, but nothing is at {(bases[0] / path).absolute()}")
        splits[split] = [image for paths in found for image in paths]
    if "train" not in splits:
        raise UserError(f"{file}: no `train`; give its folder there")
    return Layout(splits, class_names, "kpt_shape" in content)


def _class_names(file: Path, content: dict[str, Any]) -> list[str]:
    """Return the class names of a YAML file, a list or a mapping by number, in the order of their numbers.

    If numbers are missing, their classes are named by the number. Names such as `yes` and `1.0` stay text.
    """
    names, count = content["names"], whole_number(content.get("nc"))
    if isinstance(names, (list, dict)):
        names = read_yaml_as_text(file)["names"]
    if isinstance(names, dict):
        by_number = {int(key): name for key, name in names.items() if str(key).isdecimal()}
        if names and len(by_number) == len(names):
            if max(by_number) >= MAX_CLASSES:
                line = _line_of(file, str(max(by_number)))
                raise UserError(
                    f"{file}{line}: names has the class number {max(by_number)}; give numbers below {MAX_CLASSES:,}"
                )
            names = [by_number.get(number, number) for number in range(1 + max(by_number))]
    if not isinstance(names, list) or not names or any(isinstance(n, (list, dict)) or n == "" for n in names):
        raise UserError(f"{file}: names is {names!r}, but must be a list, [cat, dog], or by number, {{0: cat, 1: dog}}")
    if content.get("nc") is not None and count != len(names):
        raise UserError(f"{file}: nc is {content['nc']}, but there are {len(names)} names; which is right?")
    return [str(name) for name in names]


def _images_at(entry: str, bases: list[Path]) -> list[Path] | None:
    """Return the images in a folder or a list file, or None if there is neither.

    Exports may write `../train/images` for a folder beside the YAML file.
    """
    plain = entry.replace("\\", "/")
    for base in bases:
        for path in (base / plain.removeprefix("../"), base / plain):
            if path.is_dir():
                return images(path)
            if path.is_file():
                return _listed_images(path, [path.parent, *bases])
    return None


def _listed_images(file: Path, bases: list[Path]) -> list[Path]:
    """Return the images in a list file. If a line leads nowhere, its path is returned, and `read` reports it."""
    result = []
    for line in read_text(file, MAX_LIST_BYTES).splitlines():
        if line.strip():
            name = Path(line.strip().replace("\\", "/"))
            candidates = [base / part for base in bases for part in (name, Path(*name.parts[1:])) if part.parts]
            result.append(next((path for path in candidates if path.is_file()), bases[0] / name))
    return result


def _layout_of_darknet(file: Path, names: Sequence[str] | None) -> Layout:
    """Read `obj.data`, as CVAT exports it, with lines `key = value`."""
    pairs = [line.split("=", 1) for line in read_text(file, MAX_CONFIG_BYTES).splitlines() if "=" in line]
    content = {key.strip().lower(): value.strip() for key, value in pairs}
    bases = [file.parent, file.parent / "data", file.parent.parent]
    splits: dict[str, list[Path]] = {}
    for split, spellings in SPLITS.items():
        entry = next((content[name] for name in spellings if name in content), None)
        paths = None if entry is None else _images_at(entry, bases) or _images_at(Path(entry).name, bases)
        if paths:
            splits[split] = paths
    if not splits:
        raise UserError(f"{file}: none of its lists (train, valid) is there or names an image")
    return Layout(splits, list(names) if names is not None else _listed_classes(file.parent, []))


def _listed_classes(root: Path, splits: Iterable[Path]) -> list[str]:
    """Return the class names in the first of `CLASS_FILES` that is in `root` or a split's folder."""
    for folder in (root, root / "labels", *splits, *(split / "labels" for split in splits)):
        for name in CLASS_FILES:
            if (folder / name).is_file():
                return _lines(folder / name)
    raise UserError(
        f"nothing in {root} names the classes; add data.yaml or classes.txt, or give them with --data.names '[a, b]'"
    )


def _lines(file: Path) -> list[str]:
    """Return the class names in a file, one in each line. An empty line would shift the numbers of those after it."""
    lines = [line.strip() for line in read_text(file, MAX_CONFIG_BYTES).rstrip().splitlines()]
    if "" in lines or not lines:
        raise UserError(f"{file}:{lines.index('') + 1 if lines else 1}: no class; a line has a class's name")
    return lines


def _line_of(file: Path, word: str) -> str:
    """Return `:7`, the number of the first line of a text file that contains a word, or an empty string."""
    text = read_text(file, MAX_CONFIG_BYTES)
    match = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text)
    return "" if match is None else f":{text.count(chr(10), 0, match.start()) + 1}"
