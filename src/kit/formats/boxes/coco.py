"""Read boxes from COCO's JSON: one file for all images of a split, boxes as x, y, width and height in pixels."""

from pathlib import Path
from typing import Any

from kit.formats import coco
from kit.formats.boxes.annotation import (
    Annotation,
    Box,
    Corners,
    Reading,
    are_shares,
    are_two_corners,
    drop_wrong_units,
    missing_image,
)
from kit.formats.text import number
from kit.ground.faults import Fault


def read(file: Path, root: Path, images_folder: str | None = None) -> Reading:
    """Read a JSON file; for the arguments and errors see `kit.formats.coco.read_document`."""
    document = coco.read_document(file, root, images_folder)
    faults = list(document.faults)
    annotations: list[Annotation] = []
    for image in document.images:
        if image.path.is_file():
            annotations.append(_annotation(image, document, faults))
        else:
            faults.append(missing_image(file, image.name))
    faults += drop_wrong_units(annotations, are_shares, "shares of the image, not pixels")
    faults += drop_wrong_units(annotations, are_two_corners, "two corners, not x, y, width and height, in the JSON")
    return Reading(annotations, list(document.categories.values()), faults)


def _annotation(image: coco.ListedImage, document: coco.Document, faults: list[Fault]) -> Annotation:
    annotation = Annotation(image.path, image.path, image.size)
    for entry in image.annotations:
        where = f"annotation {entry.get('id')} of {document.file.name}"
        corners, category = _corners(entry.get("bbox")), entry["category_id"]
        if corners is None:
            faults.append(annotation.fault("annotation-unreadable", f"{where} has no bbox of four numbers"))
        elif category not in document.categories:
            faults.append(annotation.fault("class-unknown", f"{where}: category {category} is not in its list"))
        else:
            annotation.boxes.append(Box(corners, document.categories[category], entry["iscrowd"]))
    return annotation


def _corners(bbox: Any) -> Corners | None:
    """Return a bbox as XYXY, or None if it is not four numbers."""
    values = [number(value) for value in bbox] if isinstance(bbox, list) else []
    if len(values) != 4 or None in values:
        return None
    x, y, width, height = values
    return x, y, x + width, y + height
