"""Read boxes from COCO's JSON: one file for all images of a split, boxes as x, y, width and height in pixels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kit.formats import coco
from kit.formats.boxes.annotation import (
    Annotation,
    Box,
    Reading,
    drop_relative_boxes,
    missing_image,
    unreadable,
)
from kit.formats.boxes.cleaning import TOLERANCE
from kit.formats.coco import number
from kit.ground.faults import Fault, fault

CLEARLY = 1.1  # sides of the image; a box that sticks out by less was drawn carelessly, and is clipped


def read(file: Path, root: Path, images_folder: str | None = None) -> Reading:
    """Read a JSON file.

    Args:
        root: the folder of the data set.
        images_folder: the folder below `root` that has the images, if the user has given it.

    Raises:
        BrokenFiles: the file is not JSON, or not in COCO's format.
    """
    content = coco.read(file)
    names = coco.categories(content)
    faults = [fault("class-joined", file, message) for message in coco.same_names(content, names)]
    by_image: dict[Any, list[dict[str, Any]]] = {}
    for annotation in content["annotations"]:
        by_image.setdefault(annotation.get("image_id"), []).append(annotation)
    find_image = coco.image_finder(file, root, images_folder)
    annotations: list[Annotation] = []
    for entry in content["images"]:
        image = find_image(str(entry["file_name"]))
        if image is None:
            faults.append(missing_image(file, None, f"{entry['file_name']} (id {entry['id']})"))
        else:
            annotations.append(_image(image, entry, by_image.get(entry["id"], []), names, file, faults))
    ids = {entry["id"] for entry in content["images"]}
    for id in sorted(set(by_image) - ids, key=str):
        faults.append(missing_image(file, None, f"of id {id}, which {len(by_image[id])} annotation(s) name"))
    annotations = _drop_corner_boxes(drop_relative_boxes(annotations, faults), file, faults)
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
    for entry in boxes:
        where = f"annotation {entry.get('id')} of {file.name}"
        box = _box(entry)
        if box is None:
            faults.append(unreadable(image, None, f"{where} has no bbox of four numbers"))
        elif entry.get("category_id") not in names:
            message = f"{where}: category {entry.get('category_id')} is not in its list"
            faults.append(Fault("class-unknown", "error", str(image), None, message))
        else:
            annotation.add(box, names[entry["category_id"]], entry["iscrowd"])
    return annotation


def _box(annotation: dict[str, Any]) -> Box | None:
    """Return the bbox as XYXY, or the box around the polygons if there is no bbox; None if these are not numbers."""
    bbox, polygons = annotation.get("bbox"), annotation.get("segmentation")
    if bbox:
        entries = bbox if isinstance(bbox, list) and len(bbox) == 4 else [None]
    else:
        are_lists = isinstance(polygons, list) and all(isinstance(polygon, list) for polygon in polygons)
        entries = [value for polygon in polygons for value in polygon] if are_lists and polygons else [None]
    values = [value for value in map(number, entries) if value is not None]
    if len(values) != len(entries):
        return None
    if bbox:
        x, y, width, height = values
        return x, y, x + width, y + height
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])


def _drop_corner_boxes(annotations: list[Annotation], file: Path, faults: list[Fault]) -> list[Annotation]:
    """Drop boxes that are written as two corners instead of a corner and a size: of single images, or of all.

    They are recognised so: as two corners, all boxes are within the image; as corner and size, many clearly stick out
    of it, namely at least half of an image's boxes and more than one, or at least a third of all boxes in the file.
    """
    sized = [annotation for annotation in annotations if annotation.size is not None and annotation.boxes]
    outside = {id(annotation): _count_outside(annotation.boxes, annotation.size) for annotation in sized}
    boxes = sum(len(annotation.boxes) for annotation in sized)
    all_corners = boxes > 2 and None not in outside.values() and 3 * sum(outside.values()) >= boxes
    result = []
    for annotation in annotations:
        count = outside.get(id(annotation)) or 0
        if (annotation.boxes and all_corners) or (count > 1 and 2 * count >= len(annotation.boxes)):
            for (x, y, right, bottom), name in zip(annotation.boxes, annotation.names, strict=True):
                bbox = f"{x:g}, {y:g}, {right - x:g}, {bottom - y:g}"
                message = f"bbox [{bbox}] of '{name}' in {file.name} looks like two corners, not x, y, width, height"
                faults.append(Fault("box-wrong-unit", "error", str(annotation.file), None, f"{message}; left out"))
            annotation = annotation.without_boxes()
        result.append(annotation)
    return result


def _count_outside(boxes: Sequence[Box], size: tuple[int, int]) -> int | None:
    """Return how many boxes clearly stick out of the image; None if some are not within it as two corners either."""
    count = 0
    for x, y, right, bottom in boxes:
        width, height = right - x, bottom - y
        if not (x < width <= size[1] + TOLERANCE and y < height <= size[0] + TOLERANCE):
            return None
        count += right > size[1] * CLEARLY or bottom > size[0] * CLEARLY
    return count
