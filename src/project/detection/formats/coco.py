"""COCO: one JSON file for all images of a part, boxes as x, y, width and height in pixels."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from project import UserError
from project.checks import Fault
from project.detection.formats.annotation import Annotation, Box, Reading, missing_annotation, missing_image, unreadable
from project.detection.formats.mending import TOLERANCE, finite
from project.pipeline.decode import EXTENSIONS
from project.pipeline.folders import SPLITS, folders, images, split_folders

WITHOUT_BOXES = ("captions", "image_info", "panoptic", "notes")


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
    split_of = {folder: split for split, folder in split_folders(root).items() if folder is not None}
    inside = [folder for folder in folders(root) if folder.name.lower() in ("annotations", "annotation", "labels")]
    found: dict[str | None, list[Path]] = {}
    for folder in (root, *inside, *split_of):
        for file in sorted(folder.glob("*.json")):
            if file.name.startswith(WITHOUT_BOXES):
                continue
            found.setdefault(split_of.get(folder) or _split_in(file.stem), []).append(file)
    for split, files in found.items():
        instances = [file for file in files if file.name.startswith(("instances", "_annotations"))]
        chosen = files if len(files) == 1 else instances
        if len(chosen) != 1 and not (split is None and len(found) > 1):
            several = ", ".join(str(file.relative_to(root)) for file in files)
            raise UserError(f"{root}: which of {several} is for {split or 'train'}? --data.{split or 'train'} FILE")
        found[split] = chosen
    parts = {split: files[0] for split, files in found.items() if split is not None}
    if "train" not in parts and len(found.get(None, [])) == 1:
        parts["train"] = found[None][0]
    if not parts:
        raise UserError(f"no JSON file in {root}; expected {root}/annotations/instances_train.json, or train/*.json")
    return parts


def read(file: Path, root: Path, images_folder: str | None = None) -> Reading:
    """One JSON file.

    Raises:
        UserError: it is no JSON of COCO's form, so that nothing in it can be read.
    """
    content = _content(file)
    faults: list[Fault] = []
    categories = {one["id"]: str(one["name"]) for one in sorted(content["categories"], key=lambda one: one["id"])}
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation.get("image_id"), []).append(annotation)
    place = _finder(file, root, images_folder)
    annotations: list[Annotation] = []
    for entry in content["images"]:
        image = place(str(entry["file_name"]))
        if image is None:
            faults.append(missing_image(file, None, f"{entry['file_name']} (id {entry['id']})"))
        else:
            annotations.append(_image(image, entry, by_image.get(entry["id"], []), categories, file, faults))
    ids = {entry["id"] for entry in content["images"]}
    for lost in sorted(set(by_image) - ids, key=str):
        faults.append(missing_image(file, None, f"of id {lost}, which {len(by_image[lost])} annotation(s) name"))
    annotations = _without_corners(annotations, file, faults)
    return Reading(annotations, list(_real(categories, content).values()), faults)


def _image(
    image: Path,
    entry: dict[str, Any],
    boxes: list[dict[str, Any]],
    categories: dict[int, str],
    file: Path,
    faults: list[Fault],
) -> Annotation:
    height, width = entry.get("height"), entry.get("width")
    annotation = Annotation(image, image, (int(height), int(width)) if height and width else None)
    for one in boxes:
        said = f"annotation {one.get('id')} of {file.name}"
        box = _box(one)
        if box is None:
            faults.append(unreadable(image, None, f"{said} has no bbox of four numbers"))
        elif one.get("category_id") not in categories:
            message = f"{said}: category {one.get('category_id')} is not in its list"
            faults.append(Fault("class-unknown", "error", str(image), None, message))
        else:
            annotation.add(box, categories[one["category_id"]], bool(one.get("iscrowd", 0)))
    return annotation


def _box(annotation: dict[str, Any]) -> Box | None:
    """XYXY of the bbox, or around the polygons where there is none."""
    box, polygons = annotation.get("bbox"), annotation.get("segmentation")
    try:
        if box:
            x, y, width, height = (float(value) for value in box)
        else:
            points = [float(value) for polygon in polygons or () for value in polygon]
            x, y = min(points[::2]), min(points[1::2])
            width, height = max(points[::2]) - x, max(points[1::2]) - y
    except (TypeError, ValueError):
        return None
    return (x, y, x + width, y + height) if finite((x, y, width, height)) else None


def _without_corners(annotations: list[Annotation], file: Path, faults: list[Fault]) -> list[Annotation]:
    """Without the boxes of images, or all, where two corners are written in the place of corner and size.

    Then all of them would be boxes within the image if taken so, and as they are many stick out of it: in an image
    at least half and not one alone, in the whole file at least a third.
    """
    known = [annotation for annotation in annotations if annotation.size is not None and annotation.boxes]
    doubts = {id(annotation): _like_corners(annotation.boxes, annotation.size) for annotation in known}
    boxes = sum(len(annotation.boxes) for annotation in known)
    all_of_them = boxes > 2 and None not in doubts.values() and 3 * sum(doubts.values()) >= boxes
    kept = []
    for annotation in annotations:
        beyond = doubts.get(id(annotation)) or 0
        if (annotation.boxes and all_of_them) or (beyond > 1 and 2 * beyond >= len(annotation.boxes)):
            for (x, y, right, bottom), name in zip(annotation.boxes, annotation.names, strict=True):
                written = f"{x:g}, {y:g}, {right - x:g}, {bottom - y:g}"
                message = f"bbox [{written}] of '{name}' in {file.name} looks like two corners, not x, y, width, height"
                faults.append(Fault("box-wrong-unit", "error", str(annotation.file), None, f"{message}; left out"))
            annotation = Annotation(annotation.image, annotation.file, annotation.size)
        kept.append(annotation)
    return kept


def _like_corners(boxes: Sequence[Box], size: tuple[int, int]) -> int | None:
    """How many stick out of the image, if all would lie within it were their sizes corners; else None."""
    beyond = 0
    for x, y, right, bottom in boxes:
        width, height = right - x, bottom - y
        if not (x < width <= size[1] + TOLERANCE and y < height <= size[0] + TOLERANCE):
            return None
        beyond += right > size[1] + TOLERANCE or bottom > size[0] + TOLERANCE
    return beyond


def _content(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UserError(f"{file}:{error.lineno}: broken JSON ({error.msg}); export it anew") from None
    except UnicodeDecodeError:
        raise UserError(f"{file}: not a text file; export it anew") from None
    parts = ("images", "annotations", "categories")
    missing = [key for key in parts if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        raise UserError(f"{file}: no list of {' and '.join(missing)}: is it COCO's format for detection?")
    for key, wanted in (("images", ("id", "file_name")), ("categories", ("id", "name"))):
        for place, entry in enumerate(content[key]):
            lacking = [name for name in wanted if not isinstance(entry, dict) or name not in entry]
            if lacking:
                raise UserError(f"{file}: {key}[{place}] has no {' and no '.join(lacking)}")
    return content


def _real(categories: dict[int, str], content: dict[str, Any]) -> dict[int, str]:
    """Without those that only gather others, as Roboflow writes one: nothing is annotated with them."""
    parents = {one.get("supercategory") for one in content["categories"] if one.get("supercategory") != one["name"]}
    used = {annotation.get("category_id") for annotation in content["annotations"]}
    return {key: name for key, name in categories.items() if key in used or name not in parents}


def _split_in(name: str) -> str | None:
    """The part that a word of a name stands for: `instances_train2017`."""
    words = set(re.findall(r"[a-z]+", name.lower()))
    return next((split for split, names in SPLITS.items() if words & set(names)), None)


def _finder(file: Path, root: Path, images_folder: str | None) -> Callable[[str], Path | None]:
    """A function from a `file_name` to the image's path: below the folders where images may lie, else by name alone."""
    if images_folder is not None:
        places = [root / images_folder]
        if not places[0].is_dir():
            raise UserError(f"no folder at {places[0].absolute()} (data.images)")
    else:
        split = _split_in(file.stem)
        near = [folder for parent in (root, root / "images") if parent.is_dir() for folder in folders(parent)]
        places = [folder for folder in near if split and _split_in(folder.name) == split]
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


def left_out(used: set[Path]) -> list[Fault]:
    """Images beside those that are used which no JSON file names."""
    beside = (path for folder in {image.parent for image in used} for path in folder.iterdir())
    missing = sorted(path for path in beside if path.suffix.lower() in EXTENSIONS and path not in used)
    return [missing_annotation(path, "no JSON file names it, and it is left out") for path in missing]
