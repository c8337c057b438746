"""COCO: one JSON file for all images of a part, boxes as x, y, width and height in pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.data.decode import EXTENSIONS
from kit.formats.boxes.annotation import Annotation, Box, Reading, missing_annotation, missing_image, unreadable
from kit.formats.boxes.mending import TOLERANCE, without_shares
from kit.formats.coco import categories, finder, joined, number
from kit.formats.coco import read as content_of
from kit.formats.complaints import joined_faults
from kit.ground.faults import Fault

CLEARLY = 1.1  # of the image's side; what sticks out by less was drawn carelessly, and is cut


def read(file: Path, root: Path, images_folder: str | None = None) -> Reading:
    """One JSON file.

    Raises:
        BrokenFiles: it is no JSON of COCO's form, so that nothing in it can be read.
    """
    content = content_of(file)
    names = categories(content)
    faults = joined_faults(joined(content, names), file)
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation.get("image_id"), []).append(annotation)
    place = finder(file, root, images_folder)
    annotations: list[Annotation] = []
    for entry in content["images"]:
        image = place(str(entry["file_name"]))
        if image is None:
            faults.append(missing_image(file, None, f"{entry['file_name']} (id {entry['id']})"))
        else:
            annotations.append(_image(image, entry, by_image.get(entry["id"], []), names, file, faults))
    ids = {entry["id"] for entry in content["images"]}
    for lost in sorted(set(by_image) - ids, key=str):
        faults.append(missing_image(file, None, f"of id {lost}, which {len(by_image[lost])} annotation(s) name"))
    annotations = _without_corners(without_shares(annotations, faults), file, faults)
    return Reading(annotations, list(names.values()), faults)


def _image(
    image: Path,
    entry: dict[str, Any],
    boxes: list[dict[str, Any]],
    names: dict[int, str],
    file: Path,
    faults: list[Fault],
) -> Annotation:
    annotation = Annotation(image, image, (entry["height"], entry["width"]) if entry["height"] else None)
    for one in boxes:
        said = f"annotation {one.get('id')} of {file.name}"
        box = _box(one)
        if box is None:
            faults.append(unreadable(image, None, f"{said} has no bbox of four numbers"))
        elif one.get("category_id") not in names:
            message = f"{said}: category {one.get('category_id')} is not in its list"
            faults.append(Fault("class-unknown", "error", str(image), None, message))
        else:
            annotation.add(box, names[one["category_id"]], one["iscrowd"])
    return annotation


def _box(annotation: dict[str, Any]) -> Box | None:
    """Return the bbox as XYXY, or the box around the polygons if there is no bbox; None if these are not numbers."""
    bbox, polygons = annotation.get("bbox"), annotation.get("segmentation")
    if bbox:
        written = bbox if isinstance(bbox, list) and len(bbox) == 4 else [None]
    else:
        lists = isinstance(polygons, list) and all(isinstance(polygon, list) for polygon in polygons)
        written = [value for polygon in polygons for value in polygon] if lists and polygons else [None]
    values = [value for value in map(number, written) if value is not None]
    if len(values) != len(written):
        return None
    if bbox:
        x, y, width, height = values
        return x, y, x + width, y + height
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _without_corners(annotations: list[Annotation], file: Path, faults: list[Fault]) -> list[Annotation]:
    """Without the boxes of images, or all, where two corners are written in the place of corner and size.

    Then all of them would be boxes within the image if taken so, and as they are many stick out of it by a clear
    share: in an image at least half and not one alone, in the whole file at least a third.
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
    """How many stick clearly out of the image, if all would lie within it were their sizes corners; else None."""
    beyond = 0
    for x, y, right, bottom in boxes:
        width, height = right - x, bottom - y
        if not (x < width <= size[1] + TOLERANCE and y < height <= size[0] + TOLERANCE):
            return None
        beyond += right > size[1] * CLEARLY or bottom > size[0] * CLEARLY
    return beyond


def left_out(used: set[Path]) -> list[Fault]:
    """Images beside those that are used which no JSON file names."""
    beside = (path for folder in {image.parent for image in used} for path in folder.iterdir())
    missing = sorted(path for path in beside if path.suffix.lower() in EXTENSIONS and path not in used)
    return [missing_annotation(path, "no JSON file names it, and it is left out") for path in missing]
