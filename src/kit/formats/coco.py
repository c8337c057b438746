"""COCO's JSON: where it lies, what must stand in it, and where its images are."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from kit.formats.folders import SPLITS, folders, folders_by_split, images, split_in
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.reading import read_json

Crowds = Literal["ignore", "objects"]
OTHERS = ("captions", "image_info", "panoptic", "notes", ".")  # begin the names of files without boxes and masks


def find(root: Path, given: dict[str, str | None]) -> dict[str, Path]:
    """For each part its JSON file.

    In `annotations/`, in the folder itself, or in the parts' own folders; told apart by the names of the files and
    folders. Of several for a part the one that begins with `instances` is meant.

    Args:
        given: names of files below `root`, by part, where the user said them; then no others are looked for.
    """
    if any(given.values()):
        parts = {split: root / name for split, name in given.items() if name is not None}
        for split, file in parts.items():
            if not file.is_file():
                raise UserError(f"no file at {file.absolute()} (data.{split})")
        return parts
    split_of = {folder: split for split, some in folders_by_split(root).items() for folder in some}
    inside = [folder for folder in folders(root) if folder.name.lower() in ("annotations", "annotation", "labels")]
    found: dict[str | None, list[Path]] = {}
    for folder in (root, *inside, *split_of):
        for file in sorted(folder.glob("*.json")):
            if file.name.startswith(OTHERS):
                continue
            found.setdefault(split_of.get(folder) or split_in(file.stem), []).append(file)
    for part, files in found.items():
        instances = [file for file in files if file.name.startswith(("instances", "_annotations"))]
        chosen = files if len(files) == 1 else instances
        if len(chosen) != 1 and not (part is None and len(found) > 1):
            several = ", ".join(str(file.relative_to(root)) for file in files)
            raise UserError(f"{root}: which of {several} is for {part or 'train'}? --data.{part or 'train'} FILE")
        found[part] = chosen
    if "train" not in found and len(found.get(None, [])) == 1:
        found["train"] = found[None]
    parts = {split: found[split][0] for split in SPLITS if split in found}
    if not parts and len(inner := folders(root)) == 1:  # an archive's own folder
        return find(inner[0], given)
    if not parts:
        raise UserError(f"no JSON file in {root}; expected {root}/annotations/instances_train.json, or train/*.json")
    return parts


def read(file: Path) -> dict[str, Any]:
    """A JSON file's `images`, `annotations` and `categories`, each a list of dicts.

    Numbers that are written as text become numbers. The ids of images are unique, and so are those of categories, whose
    names are stripped texts. `height` and `width` are in pixels, or both are None if one of them is 0 or missing.
    `iscrowd` is a bool.

    Raises:
        BrokenFiles: the file is not JSON, or not COCO's.
    """
    content = read_json(file)
    parts = ("images", "annotations", "categories")
    missing = [key for key in parts if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise BrokenFiles(f"{file}: no list of {' and '.join(missing)}: is it in COCO's format?")
    for key, wanted in (("images", ("id", "file_name")), ("annotations", ()), ("categories", ("id", "name"))):
        for place, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise BrokenFiles(f"{file}: {key}[{place}] is no object in braces")
            lacking = [name for name in wanted if name not in entry]
            if lacking:
                raise BrokenFiles(f"{file}: {key}[{place}] has no {' and no '.join(lacking)}")
    for key, reference in (("images", "image_id"), ("categories", "category_id")):
        are_numbers = _unify_ids(file, key, content[key])
        for place, entry in enumerate(content["annotations"]):
            id = entry.get(reference)
            if isinstance(id, bool) or not (id is None or isinstance(id, (int, float, str))):
                raise BrokenFiles(
                    f"{file}: annotations[{place}]: {reference} is {json.dumps(id)}, not a number or text"
                )
            if are_numbers and id is not None and number(id) is not None:
                entry[reference] = _as_id(id)
    for place, entry in enumerate(content["categories"]):
        name = entry["name"]
        if isinstance(name, bool) or not isinstance(name, (str, int, float)) or not str(name).strip():
            raise BrokenFiles(f"{file}: categories[{place}]: name is {json.dumps(name)}, not a text")
        entry["name"] = str(name).strip()
    for place, entry in enumerate(content["images"]):
        sides = [number(entry.get(side) or 0) for side in ("height", "width")]
        for side, pixels in zip(("height", "width"), sides, strict=True):
            if pixels is None or pixels < 0:
                written = json.dumps(entry[side])
                raise BrokenFiles(f"{file}: images[{place}]: {side} is {written}, not a number of pixels")
        entry["height"], entry["width"] = [int(pixels) for pixels in sides if pixels] if all(sides) else (None, None)
    for place, entry in enumerate(content["annotations"]):
        crowd = entry.get("iscrowd") or 0  # null, or false
        if (flag := 1 if crowd is True else number(crowd)) not in (0, 1):
            raise BrokenFiles(f"{file}: annotations[{place}]: iscrowd is {json.dumps(crowd)}, but must be 0 or 1")
        entry["iscrowd"] = flag == 1
    return content


def number(written: Any) -> float | None:
    """Return the finite number that a value of JSON or XML is or, as text, stands for; None if it is not a number."""
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
    """Return the whole number that a value is or stands for, as `number` does: `12`, `12.0` or `"12"`."""
    value = number(written)
    return int(value) if value is not None and value.is_integer() else None


def _unify_ids(file: Path, key: str, entries: list[dict[str, Any]]) -> bool:
    """Turn the ids into numbers if all of them are numbers, or stand for numbers as text. Return whether that is so.

    Raises:
        BrokenFiles: an id is neither a number nor a text, has another type than the first, or occurs twice.
    """
    are_numbers = all(number(entry["id"]) is not None for entry in entries)
    places: dict[Any, int] = {}
    for place, entry in enumerate(entries):
        written = entry["id"]
        if not isinstance(written, str) and number(written) is None:
            raise BrokenFiles(f"{file}: {key}[{place}]: id {json.dumps(written)} is not a number or text")
        if not are_numbers and isinstance(written, str) != isinstance(entries[0]["id"], str):
            first = f"{json.dumps(entries[0]['id'])}, that of {key}[0]"
            raise BrokenFiles(f"{file}: {key}[{place}]: id {json.dumps(written)} is of another type than {first}")
        id = entry["id"] = _as_id(written) if are_numbers else written
        if id in places:
            also = f"also that of {key}[{places[id]}]; give each an id of its own"
            raise BrokenFiles(f"{file}: {key}[{place}]: id {json.dumps(written)} is {also}")
        places[id] = place
    return are_numbers


def _as_id(written: int | float | str) -> int | float:
    """Convert an id to a number. Text is converted exactly, since ids may have more digits than a float holds."""
    try:
        return int(written) if isinstance(written, str) else written
    except ValueError:
        return float(written)


def categories(content: dict[str, Any]) -> dict[int, str]:
    """Id to name, by id; without those that only gather others (Roboflow writes one), as nothing is annotated so."""
    above = [(one["name"], one.get("supercategory")) for one in content["categories"]]
    parents = {str(parent) for name, parent in above if parent is not None and str(parent) != name}
    used = {annotation.get("category_id") for annotation in content["annotations"]}
    names = {one["id"]: one["name"] for one in sorted(content["categories"], key=lambda one: one["id"])}
    return {key: name for key, name in names.items() if key in used or name not in parents}


def joined(content: dict[str, Any], names: dict[int, str]) -> list[str]:
    """Return a message about each name that several annotated categories have.

    Args:
        names: id to name, as `categories` returns them.
    """
    used = {annotation.get("category_id") for annotation in content["annotations"]}
    ids: dict[str, list[str]] = {}
    for id, name in names.items():
        if id in used:
            ids.setdefault(name, []).append(str(id))
    return [
        f"categories {' and '.join(several)} are both named '{name}', and become one class; rename one if they differ"
        for name, several in ids.items()
        if len(several) > 1
    ]


def finder(file: Path, root: Path, images_folder: str | None) -> Callable[[str], Path | None]:
    """A function from a `file_name` to the image's path: below the folders where images may lie, else by name alone."""
    if images_folder is not None:
        places = [root / images_folder]
        if not places[0].is_dir():
            raise UserError(f"no folder at {places[0].absolute()} (data.images)")
    else:
        split = split_in(file.stem)
        near = [folder for parent in (root, root / "images") if parent.is_dir() for folder in folders(parent)]
        places = [folder for folder in near if split and split_in(folder.name) == split]
        places = places or [file.parent, root / "images", root]
    by_name: dict[str, list[Path]] = {}

    def find(file_name: str) -> Path | None:
        plain = file_name.split("?")[0].replace("\\", "/").lstrip("/")
        for folder in places:
            if (path := folder / plain).is_file() or (path := folder / Path(plain).name).is_file():
                return path
        if not by_name:
            for path in images(places[0] if len(places) == 1 else root):
                by_name.setdefault(path.name, []).append(path)
        named = by_name.get(Path(plain).name, [])
        return named[0] if len(named) == 1 else None

    return find


def crowds_alone(names: Sequence[str]) -> str:
    """Return an error message about classes that have only crowds in the training images."""
    listed = ", ".join(f"'{name}'" for name in names)
    return f"all annotations of {listed} are crowds, which are ignored; use them as objects with --data.crowds objects"


def crowds_in_words(counts: dict[str, tuple[int, int]]) -> str:
    """List the crowds and all annotations of each class: `'cell' 3 of 40, 'rim' 1 of 7`."""
    return ", ".join(f"'{name}' {crowds:,} of {total:,}" for name, (crowds, total) in counts.items())
