"""Find and read COCO's JSON files, check their content, and find the images that they name."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from kit.formats.folders import SPLITS, folders, folders_by_split, images, split_in
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault, fault
from kit.ground.files import read_json

Crowds = Literal["ignore", "objects"]
NOT_INSTANCES = ("captions", "image_info", "panoptic", "notes", ".")  # how files without boxes and masks are named


def find(root: Path, files_of_splits: dict[str, str | None]) -> dict[str, Path]:
    """Return the JSON file of each split.

    The files are in `annotations/`, in the folder itself, or in the folders of the splits. The names of files and
    folders say which split they are for. Of several files for a split, the one that begins with `instances` is used.

    Args:
        files_of_splits: for each split, the name of its file below `root` if the user has given it. If any is given, no
            others are searched for.

    Raises:
        UserError: no file is found, or several may be meant.
    """
    if any(files_of_splits.values()):
        splits = {split: root / name for split, name in files_of_splits.items() if name is not None}
        for split, file in splits.items():
            if not file.is_file():
                raise UserError(f"no file at {file.absolute()} (data.{split})")
        return splits
    split_of = {folder: split for split, candidates in folders_by_split(root).items() for folder in candidates}
    inside = [folder for folder in folders(root) if folder.name.lower() in ("annotations", "annotation", "labels")]
    by_split: dict[str | None, list[Path]] = {}
    for folder in (root, *inside, *split_of):
        for file in sorted(folder.glob("*.json")):
            if not file.name.startswith(NOT_INSTANCES):
                by_split.setdefault(split_of.get(folder) or split_in(file.stem), []).append(file)
    for name, files in by_split.items():
        instances = [file for file in files if file.name.startswith(("instances", "_annotations"))]
        chosen = files if len(files) == 1 else instances
        if len(chosen) != 1 and not (name is None and len(by_split) > 1):
            listed = ", ".join(str(file.relative_to(root)) for file in files)
            raise UserError(f"{root}: which of {listed} is for {name or 'train'}? --data.{name or 'train'} FILE")
        by_split[name] = chosen
    if "train" not in by_split and len(by_split.get(None, [])) == 1:
        by_split["train"] = by_split[None]
    splits = {split: by_split[split][0] for split in SPLITS if split in by_split}
    if not splits and len(inner := folders(root)) == 1:  # the folder that an archive contains
        return find(inner[0], files_of_splits)
    if not splits:
        raise UserError(f"no JSON file in {root}; expected {root}/annotations/instances_train.json, or train/*.json")
    return splits


def read(file: Path) -> dict[str, Any]:
    """Return the `images`, `annotations` and `categories` of a JSON file, each a list of dicts.

    Numbers that are written as text become numbers. The ids of images are unique, and so are those of categories. The
    names of categories are stripped texts. `height` and `width` are in pixels, or both are None if one of them is 0 or
    missing. `iscrowd` is a bool.

    Raises:
        BrokenFiles: the file is not JSON, or not in COCO's format.
    """
    content = read_json(file)
    required = {"images": ("id", "file_name"), "annotations": (), "categories": ("id", "name")}
    missing = [key for key in required if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise BrokenFiles(f"{file}: no list of {' and '.join(missing)}: is it in COCO's format?")
    for key, names in required.items():
        for i, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise BrokenFiles(f"{file}: {key}[{i}] is no object in braces")
            missing = [name for name in names if name not in entry]
            if missing:
                raise BrokenFiles(f"{file}: {key}[{i}] has no {' and no '.join(missing)}")
    for key, reference in (("images", "image_id"), ("categories", "category_id")):
        are_numbers = _unify_ids(file, key, content[key])
        for i, entry in enumerate(content["annotations"]):
            id = entry.get(reference)
            if isinstance(id, bool) or not (id is None or isinstance(id, (int, float, str))):
                raise BrokenFiles(f"{file}: annotations[{i}]: {reference} is {json.dumps(id)}, not a number or text")
            if are_numbers and id is not None and number(id) is not None:
                entry[reference] = _as_id(id)
    for i, entry in enumerate(content["categories"]):
        name = entry["name"]
        if isinstance(name, bool) or not isinstance(name, (str, int, float)) or not str(name).strip():
            raise BrokenFiles(f"{file}: categories[{i}]: name is {json.dumps(name)}, not a text")
        entry["name"] = str(name).strip()
    for i, entry in enumerate(content["images"]):
        sides = [number(entry.get(side) or 0) for side in ("height", "width")]
        for side, pixels in zip(("height", "width"), sides, strict=True):
            if pixels is None or pixels < 0:
                written = json.dumps(entry[side])
                raise BrokenFiles(f"{file}: images[{i}]: {side} is {written}, not a number of pixels")
        entry["height"], entry["width"] = [int(pixels) for pixels in sides if pixels] if all(sides) else (None, None)
    for i, entry in enumerate(content["annotations"]):
        crowd = entry.get("iscrowd") or 0  # null, or false
        if (flag := 1 if crowd is True else number(crowd)) not in (0, 1):
            raise BrokenFiles(f"{file}: annotations[{i}]: iscrowd is {json.dumps(crowd)}, but must be 0 or 1")
        entry["iscrowd"] = flag == 1
    return content


def number(written: Any) -> float | None:
    """Return a value of JSON or XML as a float, also if it is a text; None if it is not a finite number."""
    if isinstance(written, bool) or not isinstance(written, (int, float, str)):
        return None
    if isinstance(written, str) and "_" in written:  # Python would read 1_000 as a number
        return None
    try:
        value = float(written)
    except (ValueError, OverflowError):
        return None
    return value if math.isfinite(value) else None


def whole_number(written: Any) -> int | None:
    """Return a value such as `12`, `12.0` or `"12"` as an int; None if it is not a whole number."""
    value = number(written)
    return int(value) if value is not None and value.is_integer() else None


def _unify_ids(file: Path, key: str, entries: list[dict[str, Any]]) -> bool:
    """Convert the ids to numbers if all of them are numbers, or texts that stand for numbers. Return whether they are.

    Raises:
        BrokenFiles: an id is neither a number nor a text, has another type than the first, or occurs twice.
    """
    are_numbers = all(number(entry["id"]) is not None for entry in entries)
    first_index: dict[Any, int] = {}
    for i, entry in enumerate(entries):
        written = entry["id"]
        if not isinstance(written, str) and number(written) is None:
            raise BrokenFiles(f"{file}: {key}[{i}]: id {json.dumps(written)} is not a number or text")
        if not are_numbers and isinstance(written, str) != isinstance(entries[0]["id"], str):
            first = f"{json.dumps(entries[0]['id'])}, that of {key}[0]"
            raise BrokenFiles(f"{file}: {key}[{i}]: id {json.dumps(written)} is of another type than {first}")
        id = entry["id"] = _as_id(written) if are_numbers else written
        if id in first_index:
            also = f"also that of {key}[{first_index[id]}]; give each an id of its own"
            raise BrokenFiles(f"{file}: {key}[{i}]: id {json.dumps(written)} is {also}")
        first_index[id] = i
    return are_numbers


def _as_id(written: int | float | str) -> int | float:
    """Convert an id to a number. Text is converted exactly, since ids may have more digits than a float holds."""
    try:
        return int(written) if isinstance(written, str) else written
    except ValueError:
        return float(written)


def categories(content: dict[str, Any]) -> dict[int, str]:
    """Return the names of the categories by their ids, in the order of the ids.

    Categories without annotations that are only the supercategory of others, as Roboflow writes one, are left out.
    """
    parents_of = [(entry["name"], entry.get("supercategory")) for entry in content["categories"]]
    parents = {str(parent) for name, parent in parents_of if parent is not None and str(parent) != name}
    used = {annotation.get("category_id") for annotation in content["annotations"]}
    names = {entry["id"]: entry["name"] for entry in sorted(content["categories"], key=lambda entry: entry["id"])}
    return {id: name for id, name in names.items() if id in used or name not in parents}


def same_names(content: dict[str, Any], names: dict[int, str]) -> list[str]:
    """Return a message about each name that several annotated categories have.

    Args:
        names: the names of the categories by their ids, as `categories` returns them.
    """
    used = {annotation.get("category_id") for annotation in content["annotations"]}
    ids: dict[str, list[str]] = {}
    for id, name in names.items():
        if id in used:
            ids.setdefault(name, []).append(str(id))
    return [
        f"categories {' and '.join(same)} are both named '{name}', and become one class; rename one if they differ"
        for name, same in ids.items()
        if len(same) > 1
    ]


def image_finder(file: Path, root: Path, images_folder: str | None) -> Callable[[str], Path | None]:
    """Return a function that finds the path of an image by its `file_name` in a JSON file.

    It searches below the folders where the images of this file may be, and then for a unique image of that name.

    Args:
        images_folder: the folder below `root` that has the images, if the user has given it.
    """
    if images_folder is not None:
        image_folders = [root / images_folder]
        if not image_folders[0].is_dir():
            raise UserError(f"no folder at {image_folders[0].absolute()} (data.images)")
    else:
        split = split_in(file.stem)
        near = [folder for parent in (root, root / "images") if parent.is_dir() for folder in folders(parent)]
        image_folders = [folder for folder in near if split and split_in(folder.name) == split]
        image_folders = image_folders or [file.parent, root / "images", root]
    by_name: dict[str, list[Path]] = {}

    def find_image(file_name: str) -> Path | None:
        plain = file_name.split("?")[0].replace("\\", "/").lstrip("/")
        for folder in image_folders:
            if (path := folder / plain).is_file() or (path := folder / Path(plain).name).is_file():
                return path
        if not by_name:
            for path in images(image_folders[0] if len(image_folders) == 1 else root):
                by_name.setdefault(path.name, []).append(path)
        candidates = by_name.get(Path(plain).name, [])
        return candidates[0] if len(candidates) == 1 else None

    return find_image


def crowds_alone(names: Sequence[str]) -> str:
    """Return an error message about classes that have only crowds in the training images."""
    listed = ", ".join(f"'{name}'" for name in names)
    return f"all annotations of {listed} are crowds, which are ignored; use them as objects with --data.crowds objects"


def list_crowds(counts: dict[str, tuple[int, int]]) -> str:
    """List the crowds and all annotations of each class: `'cell' 3 of 40, 'rim' 1 of 7`."""
    return ", ".join(f"'{name}' {crowds:,} of {total:,}" for name, (crowds, total) in counts.items())


def crowd_faults(counts: dict[str, tuple[int, int]], file: object) -> list[Fault]:
    """Return a fault for each class with crowds.

    Args:
        counts: for each class name, the number of its crowds and of all its annotations.
        file: the file or folder that has the annotations.
    """
    ignored = "crowds are neither trained on nor measured; --data.crowds objects uses them as objects"
    return [
        fault("crowd", file, f"{crowds:,} of {total:,} annotations of '{name}' are crowds; {ignored}")
        for name, (crowds, total) in counts.items()
    ]
