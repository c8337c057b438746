"""COCO's JSON: where it lies, what must stand in it, and where its images are."""

import json
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any

from project import BrokenFiles, UserError
from project.pipeline.folders import SPLITS, folders, folders_by_split, images, split_in
from project.reading import read_json

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

    The ids of images are unique, and so are those of categories; `height` and `width` are pixels, or both are None.

    Raises:
        BrokenFiles: it is no JSON, or not COCO's.
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
    for key in ("images", "categories"):
        _check_ids(file, key, [entry["id"] for entry in content[key]])
    for place, entry in enumerate(content["annotations"]):
        for name in ("image_id", "category_id"):
            if not isinstance(entry.get(name), (int, float, str, NoneType)):
                raise BrokenFiles(f"{file}: annotations[{place}]: {name} is {entry[name]}, no number or text")
    for entry in content["images"]:
        height, width = (_pixels(entry.get(side)) for side in ("height", "width"))
        entry["height"], entry["width"] = (height, width) if height and width else (None, None)
    return content


def _check_ids(file: Path, key: str, ids: list[Any]) -> None:
    """
    Raises:
        BrokenFiles: one is neither a number nor a text, of another type than the first, or there already.
    """
    places: dict[Any, int] = {}
    for place, id in enumerate(ids):
        if not isinstance(id, (int, float, str)):
            why = "is no number or text"
        elif isinstance(id, str) != isinstance(ids[0], str):
            why = f"is of another type than {json.dumps(ids[0])}, that of {key}[0]"
        elif id in places:
            why = f"is also that of {key}[{places[id]}]; give each an id of its own"
        else:
            places[id] = place
            continue
        raise BrokenFiles(f"{file}: {key}[{place}]: id {json.dumps(id)} {why}")


def _pixels(written: Any) -> int | None:
    """None where it is no number, or not above 0."""
    try:
        return max(int(float(written)), 0) or None
    except (TypeError, ValueError, OverflowError):
        return None


def categories(content: dict[str, Any]) -> dict[int, str]:
    """Id to name, by id; without those that only gather others (Roboflow writes one), as nothing is annotated so."""
    above = [(str(one["name"]), one.get("supercategory")) for one in content["categories"]]
    parents = {str(parent) for name, parent in above if parent is not None and str(parent) != name}
    used = {annotation.get("category_id") for annotation in content["annotations"]}
    names = {one["id"]: str(one["name"]) for one in sorted(content["categories"], key=lambda one: one["id"])}
    return {key: name for key, name in names.items() if key in used or name not in parents}


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
