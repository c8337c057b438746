"""Read boxes from COCO's JSON: one file for all images of a split, boxes as x, y, width and height in pixels."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kit.formats import coco, coco_search
from kit.formats.boxes.annotation import TOLERANCE, Annotation, Box, BoxFormat, Reading, no_annotation, no_image
from kit.formats.paths import unlisted_images
from kit.formats.text import number
from kit.ground.faults import Fault, fault
from kit.ground.files import is_file
from kit.ground.memory import garbage_collection_paused

# An edge beyond this multiple of the image's width or height is clearly outside. A nearer edge may have been drawn
# carelessly.
CLEARLY_OUTSIDE = 1.1


class CocoBoxes(BoxFormat):
    """A data set in COCO's format.

    Args:
        root: the folder of the data set.
        files: the JSON file that the user gave for each split, relative to `root`, or None. See `coco_search.find`.
        images_folder: the folder of the images, relative to `root`; None to find it.
    """

    def __init__(self, root: Path, files: dict[str, str | None], images_folder: str | None) -> None:
        self.root, self.images_folder = root, images_folder
        self.sources = coco_search.find(root, files)

    @garbage_collection_paused()
    def read(self, split: str) -> Reading:
        document = coco.read_document(self.sources[split], self.root, self.images_folder)
        faults = list(document.faults)
        annotations: list[Annotation] = []
        for image in document.images:
            if is_file(image.path):
                annotations.append(_annotation(image, document))
            else:
                faults.append(no_image(document.file, image.name))
        if _are_two_corners(annotations):
            message = "the boxes look like two corners, not x, y, width and height; all of them are left out"
            faults.append(fault("box-wrong-unit", document.file, message))
            for annotation in annotations:
                annotation.boxes = []
        return Reading(annotations, list(document.categories.values()), faults)

    def faults(self, readings: Iterable[Reading]) -> Iterator[Fault]:
        for image in unlisted_images({item.image for reading in readings for item in reading.annotations}):
            yield no_annotation(image, "it is left out, since no JSON file names it")


def _annotation(image: coco.ListedImage, document: coco.Document) -> Annotation:
    """Return the boxes of an image, and the faults in them."""
    annotation = Annotation(image.path, image.path, image.size)
    for entry in image.annotations:
        if (corners := _corners(entry.get("bbox"))) is not None:
            annotation.boxes.append(Box(corners, document.categories[entry["category_id"]], entry["iscrowd"]))
        else:
            item = f"annotation {entry.get('id')} of {document.file.name}"
            annotation.report("annotation-unreadable", f"{item} has no bbox of four numbers")
    return annotation


def _corners(bbox: Any) -> tuple[float, ...] | None:
    """Return a bbox as XYXY, or None if it is not four numbers."""
    values = [number(value) for value in bbox] if isinstance(bbox, list) else []
    if len(values) != 4 or None in values:
        return None
    x, y, width, height = values
    return x, y, x + width, y + height


def _are_two_corners(annotations: list[Annotation]) -> bool:
    """Return whether boxes that were read as x, y, width and height look like two corners.

    They do if there are at least three boxes, all of them lie inside their images if read as two corners, and a third
    or more lie clearly outside if read as x, y, width and height.
    """
    boxes = outside = 0
    for annotation in annotations:
        if annotation.size is None:
            continue
        height, width = annotation.size
        for box in annotation.boxes:
            x, y, right, bottom = box.corners
            if not (x < right - x <= width + TOLERANCE and y < bottom - y <= height + TOLERANCE):
                return False
            boxes += 1
            outside += right > width * CLEARLY_OUTSIDE or bottom > height * CLEARLY_OUTSIDE
    return boxes > 2 and 3 * outside >= boxes
