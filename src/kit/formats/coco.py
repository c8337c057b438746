"""Read COCO's JSON files, check their content, and find the images that they name. `coco_search` finds the files."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kit.formats.coco_search import LABELME
from kit.formats.folders import folders, images, split_in
from kit.formats.paths import Finder
from kit.formats.text import joined_class_faults, number
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault, fault
from kit.ground.files import read_json
from kit.ground.memory import garbage_collection_paused

Crowds = Literal["ignore", "objects"]  # how to use crowds: regions of many objects, with `iscrowd` 1


class ListedImage(NamedTuple):
    """An image that a JSON file lists.

    path: the image file, or where it should be if it was not found.
    name: the image's `file_name` in the JSON.
    size: height and width in pixels; None if the JSON does not have both.
    annotations: dicts as in the JSON, without those of unlisted categories. `kit.formats.masks.coco.read` replaces them
        by `Shape` objects.
    """

    path: Path
    name: str
    size: tuple[int, int] | None
    annotations: list[Any]


class Document(NamedTuple):
    """The content of a JSON file.

    categories: the name of each category by its id.
    faults: the faults of categories with the same name, and of annotations whose image or category is not listed.
    """

    file: Path
    categories: dict[int | str, str]
    images: list[ListedImage]
    faults: list[Fault]


@garbage_collection_paused()
def read_document(file: Path, root: Path, images_folder: str | None = None) -> Document:
    """Read a JSON file, and find its images.

    The JSON file has the paths of images, relative to `images_folder`. If `images_folder` is None, they are relative to
    a folder that is named after the file's split or, if there is no such folder, to the file's folder, `images/` or
    `root`. An image that is not at its path is searched for by the end of the path: see `Finder`.

    Args:
        root: the folder of the data set.
        images_folder: the folder of the images below `root`, if the user gave one.

    Raises:
        BrokenFiles: the file cannot be read, is not JSON, or is not in COCO's format.
        UserError: `images_folder` does not exist.
    """
    content = read(file)
    names, by_image = categories(content), defaultdict[Any, list[dict[str, Any]]](list)
    by_category = defaultdict[Any, list[dict[str, Any]]](list)
    for entry in content["annotations"]:
        by_category[entry["category_id"]].append(entry)
        if entry["category_id"] in names:
            by_image[entry["image_id"]].append(entry)
    faults = joined_class_faults((name for id, name in names.items() if id in by_category), file)
    for id in sorted(by_category.keys() - names.keys(), key=str):
        facts = f"{len(by_category[id])} annotation(s) have the category {id}, which is not listed"
        first = f"the first one has the id {by_category[id][0].get('id')}"
        message = f"{facts} ({first}); add the category, or remove the annotations"
        faults.append(fault("class-unknown", file, message))
    for id in sorted(by_image.keys() - {entry["id"] for entry in content["images"]}, key=str):
        message = f"{len(by_image[id])} annotation(s) have the image {id}, which is not listed"
        faults.append(fault("image-missing", file, message))
    if images_folder is not None and not (root / images_folder).is_dir():
        raise UserError(f"no folder at {(root / images_folder).absolute()} (data.images)")
    split = split_in(file.stem)
    candidates = [folder for parent in (root, root / "images") if parent.is_dir() for folder in folders(parent)]
    split_folders = [folder for folder in candidates if split and split_in(folder.name) == split]
    image_folders = [root / images_folder] if images_folder else split_folders or [file.parent, root / "images", root]
    searched = image_folders[0] if len(image_folders) == 1 else root
    file_names = [entry["file_name"] for entry in content["images"]]
    find_image = Finder(lambda: images(searched), image_folders, file_names)
    listed_images = []
    for entry in content["images"]:
        name, size = entry["file_name"], (entry["height"], entry["width"])
        path = find_image(name) or file.parent / name
        listed_images.append(ListedImage(path, name, size if all(size) else None, by_image.get(entry["id"], [])))
    find_image.report_other_paths(file)
    return Document(file, names, listed_images, faults)


def read(file: Path) -> dict[str, Any]:
    """Return the `images`, `annotations` and `categories` of a JSON file, each a list of dicts.

    The values are converted by the functions in `FIELDS`. No two images and no two categories have the same id.

    Raises:
        BrokenFiles: the file cannot be read, is not JSON, or is not in COCO's format.
    """
    content = read_json(file)
    missing = [key for key in FIELDS if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise BrokenFiles(f"{file}: no list of {' and '.join(missing)}: is it in COCO's format? Or {LABELME}")
    for key, fields in FIELDS.items():
        indices: dict[Any, int] = {}  # from an id to the index of its entry
        for i, entry in enumerate(content[key]):
            if not isinstance(entry, dict):
                raise BrokenFiles(f"{file}: {key}[{i}] is not an object in braces")
            for name, convert in fields.items():
                try:
                    entry[name] = convert(entry.get(name))
                except ValueError as error:
                    value = json.dumps(entry.get(name))
                    raise BrokenFiles(f"{file}: {key}[{i}]: {name} is {value}, but must be {error}") from None
            if "id" in fields and (other := indices.setdefault(entry["id"], i)) != i:
                id = json.dumps(entry["id"])
                raise BrokenFiles(f"{file}: {key}[{i}]: id {id} is already used by {key}[{other}]; give each its own")
    return content


# Each of the functions up to `FIELDS` converts a value, or raises a `ValueError` that says what the value must be.
def _id(json_value: Any) -> int | float | str:
    if type(json_value) is int:  # a fast path, since there may be millions of ids
        return json_value
    if isinstance(json_value, str):
        return int(json_value) if json_value.strip().isdecimal() else json_value
    if number(json_value) is None:
        raise ValueError("a number or text")
    return json_value


def _text(json_value: Any) -> str:
    text = str(json_value).strip() if type(json_value) in (str, int, float) else ""
    if not text or re.search("[\0\ud800-\udc7f\udd00-\udfff]", text):  # a file's name cannot have these characters
        raise ValueError("text")
    return text


def _pixels(json_value: Any) -> int:
    pixels = 0 if json_value is None else number(json_value)
    if pixels is None or pixels < 0:
        raise ValueError("a number of pixels")
    return int(pixels)


def _flag(json_value: Any) -> bool:
    value = float(json_value or 0) if json_value is None or isinstance(json_value, bool) else number(json_value)
    if value not in (0, 1):
        raise ValueError("0 or 1")
    return value == 1


# The fields that are checked, each with the function that checks and converts its values. Other fields are not changed.
FIELDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "images": {"id": _id, "file_name": _text, "height": _pixels, "width": _pixels},
    "annotations": {"image_id": _id, "category_id": _id, "iscrowd": _flag},
    "categories": {"id": _id, "name": _text},
}


def categories(content: dict[str, Any]) -> dict[int | str, str]:
    """Return the name of each category by its id, sorted by id, with numbers before text.

    A category is left out if it has no annotations and is the supercategory of others, as in Roboflow's files.
    """
    pairs = [(entry["name"], entry.get("supercategory")) for entry in content["categories"]]
    parents = {str(parent) for name, parent in pairs if parent is not None and str(parent) != name}
    used = {annotation["category_id"] for annotation in content["annotations"]}
    ordered = sorted(content["categories"], key=lambda entry: (isinstance(entry["id"], str), entry["id"]))
    return {entry["id"]: entry["name"] for entry in ordered if entry["id"] in used or entry["name"] not in parents}


def count_crowds(objects: Iterable[tuple[str, bool]]) -> dict[str, tuple[int, int]]:
    """Return (number of crowds, number of annotations) of each class with crowds. objects: (class name, is a crowd)."""
    counts = Counter(objects)
    names = sorted(name for name, crowd in counts if crowd)
    return {name: (counts[name, True], counts[name, True] + counts[name, False]) for name in names}


def only_crowds_problem(counts: dict[str, tuple[int, int]]) -> str:
    """Return the error message for classes whose annotations are all crowds, or "". counts: see `count_crowds`."""
    names = ", ".join(f"'{name}'" for name, (crowds, total) in counts.items() if crowds == total)
    message = f"all annotations of {names} are crowds, which are not learned; use them with --data.crowds objects"
    return message if names else ""


def list_crowds(counts: dict[str, tuple[int, int]]) -> str:
    """Return the result of `count_crowds` as text: `'cell' 3 of 40, 'rim' 1 of 7`."""
    return ", ".join(f"'{name}' {crowds:,} of {total:,}" for name, (crowds, total) in counts.items())


def crowd_faults(counts: dict[str, tuple[int, int]], file: object) -> list[Fault]:
    """Return a fault of `file`, a file or folder, for each class with crowds. counts: the result of `count_crowds`."""
    message = "{:,} of {:,} annotations of '{}' are crowds, which are not learned; use them with --data.crowds objects"
    return [fault("crowd", file, message.format(*numbers, name)) for name, numbers in counts.items()]
