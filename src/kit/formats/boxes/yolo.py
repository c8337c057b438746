"""YOLO: a text file for each image, with a line `class x y width height` for each box, all in shares of the image.

A line with more numbers is a polygon, `class x1 y1 x2 y2 x3 y3 ...`, whose bounding box is taken.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from kit.data.decode import EXTENSIONS
from kit.formats.boxes.annotation import Annotation, Box, Reading, missing_annotation, missing_image, unreadable
from kit.formats.boxes.mending import finite
from kit.formats.coco import whole_number
from kit.formats.complaints import joined_faults
from kit.formats.folders import SPLITS, folders, images, split_folders
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault
from kit.ground.reading import (
    MOST_CLASSES,
    MOST_OF_ANNOTATION,
    MOST_OF_CONFIG,
    MOST_OF_LIST,
    line_of,
    read_text,
    read_yaml,
    read_yaml_as_text,
)

NAMES = ("classes.txt", "obj.names", "predefined_classes.txt")
FARTHEST = 2  # shares of the image's side: a value farther out is in pixels, and a box that ends before it is cut
NO_LABELS = {*NAMES, "notes.txt", "readme.txt", "readme.roboflow.txt", "readme.dataset.txt"}


class Layout(NamedTuple):
    """parts: the images of each. keypoints: a line goes on with points after its box, instead of being a polygon."""

    parts: dict[str, list[Path]]
    class_names: list[str]
    keypoints: bool = False


def find(root: Path, names: Sequence[str] | None = None) -> Layout:
    """`data.yaml` says all; else `obj.data`; else folders, `images/train` or `train/images`, or one folder for all.

    Args:
        root: the folder, or its YAML file.
        names: the classes, where no file lists them.
    """
    if root.is_file():
        return _of_yaml(root, names)
    yamls = [path for path in sorted([*root.glob("*.yaml"), *root.glob("*.yml")]) if _is_layout(path)]
    if len(yamls) > 1:
        several = ", ".join(path.name for path in yamls)
        raise UserError(f"several YAML files in {root} ({several}); give one of them with --data.root {yamls[0]}")
    if yamls:
        return _of_yaml(yamls[0], names)
    if (root / "obj.data").is_file():
        return _of_darknet(root / "obj.data", names)
    inside = {folder.name.lower(): folder for folder in folders(root)}
    pictures = inside.get("images", root)
    parts = {split: folder for split, folder in split_folders(root).items() if folder is not None}
    parts = parts or {split: folder for split, folder in split_folders(pictures).items() if folder is not None}
    listed = list(names) if names is not None else _listed(root, parts.values())
    return Layout({split: images(folder) for split, folder in parts.items()} or {"train": images(pictures)}, listed)


def read(pictures: Sequence[Path], layout: Layout) -> Reading:
    annotations: list[Annotation] = []
    twice = [name for name, count in Counter(map(str.strip, layout.class_names)).items() if count > 1]
    faults = joined_faults([f"several classes are named '{name}', and become one class" for name in twice], "")
    folders_of: dict[Path, set[Path]] = {}
    _mirrored.cache_clear()  # folders may have been moved since the last time
    for image in pictures:
        if not image.is_file():
            faults.append(missing_image(image, None, "though it is listed"))
            continue
        text = _text_of(image)
        folders_of.setdefault(text.parent, set()).add(image.parent)
        annotation = Annotation(image, text, relative=True)
        if text.is_file():
            _parse(text, annotation, layout, faults)
        else:
            faults.append(missing_annotation(image, "without a text file it counts as an image without objects"))
        annotations.append(annotation)
    for folder, of_images in sorted(folders_of.items()):
        there = {path.stem for beside in of_images for path in beside.iterdir() if path.suffix.lower() in EXTENSIONS}
        for text in sorted(folder.glob("*.txt")):
            if text.stem not in there and text.name.lower() not in NO_LABELS and _has_boxes(text):
                faults.append(missing_image(text, None, f"{text.stem}.* that belongs to it"))
    return Reading(annotations, layout.class_names, faults)


def _parse(text: Path, annotation: Annotation, layout: Layout, faults: list[Fault]) -> None:
    try:
        lines = read_text(text, MOST_OF_ANNOTATION).splitlines()
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
        known = f"{len(layout.class_names)} classes, 0 to {len(layout.class_names) - 1}"
        if box is None or not finite(values):
            why = f"{len(values)} numbers after the class; a box has 4 finite ones, a polygon 6 or more"
            faults.append(annotation.fault("annotation-unreadable", "error", number, why))
        elif not 0 <= label < len(layout.class_names):
            faults.append(annotation.fault("class-unknown", "error", number, f"class {label}, but there are {known}"))
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


def _text_of(image: Path) -> Path:
    """In `labels/` in the place of the last `images/` of its path; or beside it, or in a `labels/` nearby."""
    usual = _mirrored(image.parent) / f"{image.stem}.txt"
    others = [image.with_suffix(".txt"), *(f / "labels" / f"{image.stem}.txt" for f in image.parents[:2])]
    return next((text for text in (usual, *others) if text.is_file()), usual)


@cache
def _mirrored(folder: Path) -> Path:
    """`labels/train` or `Labels/train` for `Images/TRAIN`, as it is there; the folder itself if it has no images/."""
    parts = [part.lower() for part in folder.parts]
    if "images" not in parts:
        return folder
    place = len(parts) - 1 - parts[::-1].index("images")
    found = Path(*folder.parts[:place])
    for wanted in ("labels", *folder.parts[place + 1 :]):
        there = [path.name for path in folders(found) if path.name.lower() == wanted.lower()] if found.is_dir() else []
        found /= wanted if wanted in there or not there else there[0]
    return found


def _has_boxes(text: Path) -> bool:
    try:
        first = read_text(text, MOST_OF_ANNOTATION).split(maxsplit=1)[:1]
    except BrokenFiles:
        return False
    return bool(first) and first[0].isdigit()


def _is_layout(path: Path) -> bool:
    return isinstance(content := read_yaml(path), dict) and "names" in content


def _of_yaml(file: Path, names: Sequence[str] | None) -> Layout:
    content = read_yaml(file)
    if not _is_layout(file):
        raise UserError(f"{file}: no `names`; give the classes there")
    listed = list(names) if names is not None else _names(file, content)
    bases = [file.parent / str(content["path"]), file.parent] if content.get("path") else [file.parent]
    parts: dict[str, list[Path]] = {}
    for split, spellings in SPLITS.items():
        entry = next((content[name] for name in spellings if content.get(name)), None)
        if entry is None:
            continue
        entries = entry if isinstance(entry, list) else [entry]
        if not all(isinstance(one, str) for one in entries):
            raise UserError(f"{file}: {split} is {entry}, but must be a folder or a list of folders")
        found = [_images_at(one, bases) for one in entries]
        if all(one is None for one in found) and split != "train":  # exports name them whether they are there or not
            rank_zero_warn(f"{file}: no {split} images at {entry}")
            continue
        for one, there in zip(entries, found, strict=True):
            if there is None:
                raise UserError(f"{file}: {split} is {one}, but nothing is at {(bases[0] / one).absolute()}")
        parts[split] = [image for some in found for image in some]
    if "train" not in parts:
        raise UserError(f"{file}: no `train`; give its folder there")
    return Layout(parts, listed, "kpt_shape" in content)


def _names(file: Path, content: dict[str, Any]) -> list[str]:
    """Return the classes' names, which are a list or a mapping by number, in the order of their numbers.

    Numbers may be missing: their classes are named by the number. Names such as `yes` and `1.0` stay as they are
    written.
    """
    own, count = content["names"], whole_number(content.get("nc"))
    if isinstance(own, (list, dict)):
        own = read_yaml_as_text(file)["names"]
    if isinstance(own, dict):
        by_number = {int(key): name for key, name in own.items() if str(key).isdecimal()}
        if own and len(by_number) == len(own):
            if max(by_number) >= MOST_CLASSES:
                line = line_of(file, str(max(by_number)))
                raise UserError(
                    f"{file}{line}: names has the class number {max(by_number)}; give numbers below {MOST_CLASSES:,}"
                )
            own = [by_number.get(number, number) for number in range(1 + max(by_number))]
    if not isinstance(own, list) or not own or any(isinstance(name, (list, dict)) or name == "" for name in own):
        raise UserError(f"{file}: names is {own!r}, but must be a list, [cat, dog], or by number, {{0: cat, 1: dog}}")
    if content.get("nc") is not None and count != len(own):
        raise UserError(f"{file}: nc is {content['nc']}, but there are {len(own)} names; which is right?")
    return [str(name) for name in own]


def _images_at(entry: str, bases: list[Path]) -> list[Path] | None:
    """Of a folder or a list file; exports write `../train/images` for what is beside the YAML file."""
    plain = entry.replace("\\", "/")
    for base in bases:
        for path in (base / plain.removeprefix("../"), base / plain):
            if path.is_dir():
                return images(path)
            if path.is_file():
                return _listed_images(path, [path.parent, *bases])
    return None


def _listed_images(file: Path, bases: list[Path]) -> list[Path]:
    """Of a list file; a line that leads nowhere stands for itself, and is missed when it is read."""
    found = []
    for line in read_text(file, MOST_OF_LIST).splitlines():
        if line.strip():
            name = Path(line.strip().replace("\\", "/"))
            tries = [base / part for base in bases for part in (name, Path(*name.parts[1:])) if part.parts]
            found.append(next((path for path in tries if path.is_file()), bases[0] / name))
    return found


def _of_darknet(file: Path, names: Sequence[str] | None) -> Layout:
    """`obj.data`, as CVAT exports it: lines of `key = value`."""
    pairs = [line.split("=", 1) for line in read_text(file, MOST_OF_CONFIG).splitlines() if "=" in line]
    content = {key.strip().lower(): value.strip() for key, value in pairs}
    bases = [file.parent, file.parent / "data", file.parent.parent]
    parts: dict[str, list[Path]] = {}
    for split, spellings in SPLITS.items():
        entry = next((content[name] for name in spellings if name in content), None)
        found = None if entry is None else _images_at(entry, bases) or _images_at(Path(entry).name, bases)
        if found:
            parts[split] = found
    if not parts:
        raise UserError(f"{file}: none of its lists (train, valid) is there or names an image")
    return Layout(parts, list(names) if names is not None else _listed(file.parent, []))


def _listed(root: Path, parts: Iterable[Path]) -> list[str]:
    for folder in (root, root / "labels", *parts, *(part / "labels" for part in parts)):
        for name in NAMES:
            if (folder / name).is_file():
                return _names_in(folder / name)
    raise UserError(
        f"nothing in {root} names the classes; add data.yaml or classes.txt, or give them with --data.names '[a, b]'"
    )


def _names_in(file: Path) -> list[str]:
    """A line each; an empty one would shift the numbers of all that follow."""
    lines = [line.strip() for line in read_text(file, MOST_OF_CONFIG).rstrip().splitlines()]
    if "" in lines or not lines:
        raise UserError(f"{file}:{lines.index('') + 1 if lines else 1}: no class; a line has a class's name")
    return lines
