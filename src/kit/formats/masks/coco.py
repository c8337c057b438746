"""Read masks from COCO's JSON: check its annotations, and draw their polygons and run lengths as masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kit.data.decode import broken_file_errors
from kit.formats.coco import Crowds, Document, ListedImage, count_crowds, read_document
from kit.formats.masks.masks import IGNORED, read_orientation
from kit.formats.text import describe_size
from kit.ground.errors import BrokenFiles
from kit.ground.faults import Severity, fault
from kit.ground.files import max_pixels

# The largest length of a polygon's outline, in pixels. The memory and time for drawing are proportional to the length:
# 20,000 corners in a zigzag may take 5 GB and a minute.
MAX_OUTLINE = 2_000_000
MAX_PIXELS = max_pixels()
Problem = tuple[str, Severity, str]  # the kind, the severity and the message of a fault
EMPTY: Problem = ("mask-empty", "warning", "covers no pixel; draw it again, or remove it")


class Shape(NamedTuple):
    """The region of one object.

    id: the annotation's id in the JSON, or None; used in messages.
    category: the id of the category.
    crowd: whether the region is a crowd: a region of many objects.
    segmentation: polygons of V corners, each Float64[2*V] (x, y, x, y, ...), or run lengths as in the JSON.
    """

    id: Any
    category: int | str
    crowd: bool
    segmentation: Any


@dataclass(frozen=True)
class CocoShapes:
    """Draw the annotations of an image as a mask, later ones over earlier ones.

    See `kit.formats.masks.masks.Reader` for the methods that all readers have.

    file: the JSON file with the annotations.
    numbers: `(category id, class number)` for each category.
    crowds: "objects" draws crowds like all other annotations; "ignore" draws them as pixels to ignore.
    background: the class number of all other pixels.
    """

    file: Path
    numbers: tuple[tuple[int | str, int], ...]
    crowds: Crowds = "ignore"
    background: int = 0

    def read(self, target: ListedImage) -> np.ndarray:
        mask, problems = self.draw(target)
        for kind, _, message in filter(None, problems):
            if kind == "annotation-unreadable":
                raise BrokenFiles(f"{self.file}: an annotation of {target.name} {message}")
        return mask

    def read_known(self, target: ListedImage) -> np.ndarray:
        return self.draw(target)[0]

    def draw(self, target: ListedImage) -> tuple[np.ndarray, list[Problem | None]]:
        """Return a mask, uint8 [h w], and for each shape the problem in drawing it, or None."""
        from faster_coco_eval.core import mask as rle

        with broken_file_errors(target.path):
            size = target.size or read_orientation(target.path)[0]
        class_numbers, problems, mask = dict(self.numbers), list[Problem | None](), np.full(size, self.background, "u1")
        for shape in target.annotations:
            try:
                inside = np.asarray(rle.decode(_as_runs(shape.segmentation, size))).any(2)
            except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
                reason = str(error) or type(error).__name__
                problems.append(("annotation-unreadable", "error", f"cannot be drawn ({reason})"))
                continue
            mask[inside] = IGNORED if shape.crowd and self.crowds == "ignore" else class_numbers[shape.category]
            problems.append(None if inside.any() else EMPTY)
        return mask, problems

    def files(self, targets: Sequence[ListedImage]) -> list[Path]:
        return [self.file]


def _as_runs(segmentation: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Convert polygons, or run lengths in any of COCO's forms, to compressed run lengths.

    Args:
        size: the height and width of the image.

    Raises:
        ValueError: the run lengths are for another size.
    """
    from faster_coco_eval.core import mask as rle

    if not isinstance(segmentation, dict):
        return rle.frPyObjects([polygon.tolist() for polygon in segmentation], *size)
    if tuple(segmentation["size"]) != size:
        raise ValueError(f"run lengths for an image of {segmentation['size']}, not {list(size)}")
    return [segmentation if isinstance(segmentation["counts"], str) else rle.frPyObjects(segmentation, *size)]


def read(file: Path, root: Path, images_folder: str | None = None) -> Document:
    """Read a JSON file, with a `Shape` for each annotation that can be drawn.

    `kit.formats.coco.read_document` describes the arguments and errors.
    """
    document, images = read_document(file, root, images_folder), []

    def report(item: str, problem: object, kind: str = "annotation-unreadable") -> None:
        document.faults.append(fault(kind, file, f"{item}: {problem}; it is left out"))

    for image in document.images:
        size, shapes = image.size, []
        if size and size[0] * size[1] > MAX_PIXELS:
            report(f"the size of {image.name}", f"{describe_size(size)} is too large for an image")
            size = None
        for entry in image.annotations:
            category, item = entry["category_id"], f"annotation {entry.get('id')}"
            if category not in document.categories:
                report(item, f"its category {category} is not listed", "mask-id-unknown")
                continue
            try:
                shapes.append(Shape(entry.get("id"), category, entry["iscrowd"], _segmentation(entry)))
            except ValueError as error:
                report(item, error)
        images.append(image._replace(size=size, annotations=shapes))
    return document._replace(images=images)


def crowds(document: Document) -> dict[str, tuple[int, int]]:
    """Return (number of crowds, number of annotations) for each class that has crowds."""
    shapes = (shape for image in document.images for shape in image.annotations)
    return count_crowds((document.categories[shape.category], shape.crowd) for shape in shapes)


def _segmentation(annotation: dict[str, Any]) -> dict[str, Any] | list[np.ndarray]:
    """Return run lengths as in COCO's JSON, or polygons as arrays, which take a tenth of the memory of lists.

    Raises:
        ValueError: the segmentation cannot be drawn.
    """
    json_value = annotation.get("segmentation")
    if isinstance(json_value, dict):
        counts, size = json_value.get("counts"), _numbers(json_value.get("size")).astype(int).tolist()
        runs = [] if isinstance(counts, str) else _numbers(counts).astype(int).tolist()
        if len(size) != 2 or min([*size, *runs]) < 0 or sum(runs) > size[0] * size[1]:
            raise ValueError("its run lengths have no size, or do not fit into the image")
        return {"size": size, "counts": counts if isinstance(counts, str) else runs}
    if not json_value or not isinstance(json_value, list):
        raise ValueError("it has no segmentation")
    return [_polygon(polygon) for polygon in json_value]


def _numbers(json_value: Any) -> np.ndarray:
    """Convert a list of numbers, or of texts such as "1.5", to Float64[N].

    Raises:
        ValueError: the value is not a list of finite numbers.
    """
    try:
        values = np.array(json_value, float)
    except (ValueError, TypeError, OverflowError):
        values = np.array(np.nan)
    if not isinstance(json_value, list) or values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError("its polygons or run lengths are not lists of finite numbers")
    return values


def _polygon(json_value: Any) -> np.ndarray:
    polygon = _numbers(json_value)
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError("a polygon has fewer than three corners, or an odd count of numbers")
    if len(polygon) * np.abs(polygon).max() > MAX_OUTLINE:
        corners = polygon.reshape(-1, 2)
        # The lengths of the sides, plus the largest coordinate, since drawing far from 0 also takes memory.
        length = np.abs(corners - np.roll(corners, 1, axis=0)).max(1).sum() + np.abs(corners).max()
        if length > MAX_OUTLINE:
            raise ValueError(f"its outline is {length:,.0f} pixels long, but may have at most {MAX_OUTLINE:,}")
    return polygon
