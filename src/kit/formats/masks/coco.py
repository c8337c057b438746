"""Read masks from COCO's JSON: check its annotations, and draw their polygons and run lengths as masks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kit.data.decode import broken_file_errors, upright_size
from kit.formats.coco import Crowds, Document, ListedImage, count_crowds, read_document
from kit.formats.masks.masks import IGNORED, Problem, Reader
from kit.formats.text import describe_size
from kit.ground.faults import fault
from kit.ground.files import max_pixels, open_image

# The largest length of a polygon's outline, in pixels. The memory and time for drawing are proportional to the length:
# 20,000 corners in a zigzag may take 5 GB and a minute.
MAX_OUTLINE = 2_000_000
MAX_PIXELS = max_pixels()
EXPECTED = "polygons of finite numbers x, y, x, y, ... with at least 3 corners and an outline of at most "
EXPECTED += f"{MAX_OUTLINE:,} pixels, or run lengths that fit into the image"
MAX_VALUE = 60  # the largest number of characters of an invalid value in an error message
TOLERANCE = 1.0  # the number of pixels by which a corner may lie outside of the image, since programs round


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
class CocoShapes(Reader):
    """Draw the annotations of an image as a mask, later ones over earlier ones.

    file: the JSON file with the annotations.
    numbers: `(category id, class number)` for each category.
    crowds: "objects" draws crowds like all other annotations; "ignore" draws them as pixels to ignore.
    background: the class number of all other pixels.
    """

    file: Path
    numbers: tuple[tuple[int | str, int], ...]
    crowds: Crowds = "ignore"
    background: int = 0

    def read_with_problems(self, target: ListedImage) -> tuple[np.ndarray, list[Problem]]:
        from faster_coco_eval.core import mask as rle

        size = target.size
        if size is None:
            with broken_file_errors(target.path), open_image(target.path) as image:
                size = upright_size(image)
        class_numbers, problems, mask = dict(self.numbers), list[Problem](), np.full(size, self.background, "u1")
        for shape in target.annotations:
            item = f"annotation {shape.id} of {target.name}"
            try:
                inside = np.asarray(rle.decode(_as_runs(shape.segmentation, size))).any(2)
            except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
                reason = str(error) or type(error).__name__
                problems.append(("annotation-unreadable", "error", f"{item}: cannot be drawn ({reason})"))
                continue
            mask[inside] = IGNORED if shape.crowd and self.crowds == "ignore" else class_numbers[shape.category]
            if problem := _shape_problem(shape, inside):
                kind, severity, message = problem
                problems.append((kind, severity, f"{item}: {message}"))
        return mask, problems

    def files(self, targets: Sequence[ListedImage]) -> list[Path]:
        return [self.file]


def _shape_problem(shape: Shape, inside: np.ndarray) -> Problem | None:
    """Return the problem of a shape that covers no pixel or is not inside the image. inside: its pixels, Bool[h w]."""
    problem: Problem | None = None
    if not inside.any():
        problem = "mask-empty", "warning", "covers no pixel; draw it again, or remove it"
    if isinstance(shape.segmentation, dict):
        return problem
    corners, (height, width) = np.concatenate(shape.segmentation).reshape(-1, 2), inside.shape
    low, high = corners.min(0), corners.max(0)
    if low.min() >= 0 and high.max() <= 1 < min(inside.shape) - 1:
        return "mask-wrong-unit", "error", "its corners are from 0 to 1, instead of in pixels; export it again"
    if (high <= 0).any() or (low >= (width, height)).any():
        return "mask-out-of-bounds", "error", f"lies outside the image, which is {describe_size(inside.shape)}"
    if (low < -TOLERANCE).any() or (high > np.add((width, height), TOLERANCE)).any():
        return "mask-out-of-bounds", "warning", "sticks out of the image, and is cut; check it"
    return problem


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
    document, images, problems = read_document(file, root, images_folder), [], []
    for image in document.images:
        size, shapes = image.size, []
        if size and size[0] * size[1] > MAX_PIXELS:
            problems.append(f"{image.name}: {describe_size(size)} is too large for an image; the size is ignored")
            size = None
        for entry in image.annotations:
            try:
                segmentation = _segmentation(entry.get("segmentation"))
                shapes.append(Shape(entry.get("id"), entry["category_id"], entry["iscrowd"], segmentation))
            except (ValueError, TypeError, OverflowError, KeyError):
                text = json.dumps(entry.get("segmentation"))
                value = text[:MAX_VALUE] + "..." * (len(text) > MAX_VALUE)
                problem = f"its segmentation is {value}, but must be {EXPECTED}; it is left out"
                problems.append(f"annotation {entry.get('id')}: {problem}")
        images.append(image._replace(size=size, annotations=shapes))
    faults = [fault("annotation-unreadable", file, problem) for problem in problems]
    return document._replace(images=images, faults=document.faults + faults)


def crowds(document: Document) -> dict[str, tuple[int, int]]:
    """Return (number of crowds, number of annotations) for each class that has crowds."""
    shapes = (shape for image in document.images for shape in image.annotations)
    return count_crowds((document.categories[shape.category], shape.crowd) for shape in shapes)


# Each of the functions below raises a `ValueError`, `TypeError`, `OverflowError` or `KeyError` for an invalid value.
def _segmentation(json_value: Any) -> dict[str, Any] | list[np.ndarray]:
    """Return run lengths as in COCO's JSON, or polygons as arrays, which take a tenth of the memory of lists."""
    if not isinstance(json_value, dict):
        if not json_value:
            raise ValueError
        return [_polygon(polygon) for polygon in json_value]
    counts, size = json_value["counts"], _numbers(json_value["size"]).astype(int).tolist()
    runs = [] if isinstance(counts, str) else _numbers(counts).astype(int).tolist()
    if len(size) != 2 or min([*size, *runs]) < 0 or sum(runs) > size[0] * size[1]:
        raise ValueError
    return {"size": size, "counts": counts if isinstance(counts, str) else runs}


def _numbers(json_value: Any) -> np.ndarray:
    """Convert a list of finite numbers, or of texts such as "1.5", to Float64[N]."""
    values = np.array(json_value, float)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise ValueError
    return values


def _polygon(json_value: Any) -> np.ndarray:
    polygon = _numbers(json_value)
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError
    if len(polygon) * np.abs(polygon).max() > MAX_OUTLINE:  # an upper bound, which is enough for most polygons
        corners = polygon.reshape(-1, 2)
        # The lengths of the sides, plus the largest coordinate, since drawing far from 0 also takes memory.
        if np.abs(corners - np.roll(corners, 1, axis=0)).max(1).sum() + np.abs(corners).max() > MAX_OUTLINE:
            raise ValueError
    return polygon
