"""COCO's JSON: what stands in it, and its polygons and run lengths drawn as masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from project import BrokenFiles
from project.pipeline.coco import categories, finder, read
from project.pipeline.decode import upright_size
from project.segmentation.masks import IGNORED


class Shape(NamedTuple):
    """One annotation: polygons, each Float64[2 V] of x, y, x, y, ..., or run lengths as COCO writes them."""

    category: int
    crowd: bool
    segmentation: Any


class Drawing(NamedTuple):
    """What is annotated on an image. size: height and width; None where the JSON does not say."""

    image: Path
    size: tuple[int, int] | None
    shapes: list[Shape]


class Lost(NamedTuple):
    """An annotation that is of no use. kind: as of a `Fault`."""

    id: Any
    kind: str
    why: str


class Document(NamedTuple):
    """A JSON file. categories: id to name."""

    file: Path
    categories: dict[int, str]
    drawings: list[Drawing]
    lost: list[Lost]


@dataclass(frozen=True)
class CocoShapes:
    """Draws the annotations of an image, later ones over earlier ones; crowds are ignored, the rest is class 0.

    file: the JSON, which the drawings come from.
    numbers: `(category id, class number)`.
    """

    file: Path
    numbers: tuple[tuple[int, int], ...]

    def read(self, target: Drawing) -> np.ndarray:
        from faster_coco_eval.core import mask as rle

        size = target.size or _size_of(target.image)
        mask, numbers = np.zeros(size, np.uint8), dict(self.numbers)
        for shape in target.shapes:
            try:
                runs = as_runs(shape.segmentation, size)
                inside = np.asarray(rle.decode(runs)).any(2)
                mask[inside] = IGNORED if shape.crowd else numbers[shape.category]
            except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
                what = f"an annotation of {target.image.name} cannot be drawn"
                raise BrokenFiles(f"{self.file}: {what} ({error})") from None
        return mask

    def files(self, targets: Sequence[Drawing]) -> list[Path]:
        return [self.file]


def as_runs(segmentation: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Compressed run lengths of polygons, or of run lengths of either kind.

    Raises:
        ValueError: it is neither, or of another size.
    """
    from faster_coco_eval.core import mask as rle

    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != size:
            raise ValueError(f"run lengths for an image of {segmentation['size']}, not {list(size)}")
        counts = segmentation["counts"]
        return [rle.frPyObjects(segmentation, *size) if isinstance(counts, list) else segmentation]
    return rle.frPyObjects([polygon.tolist() for polygon in segmentation], *size)


def read_document(file: Path, root: Path, images_in: str | None = None) -> Document:
    """Everything in a JSON file.

    Raises:
        BrokenFiles: it is no JSON, or not COCO's.
    """
    content, place = read(file), finder(file, root, images_in)
    names = categories(content)
    by_image: dict[Any, list[Shape]] = {entry["id"]: [] for entry in content["images"]}
    lost = []
    for entry in content["annotations"]:
        shape = _shape(entry, names, by_image)
        if isinstance(shape, Lost):
            lost.append(shape)
        else:
            by_image[entry["image_id"]].append(shape)
    drawings = []
    for entry in content["images"]:
        name = str(entry["file_name"])
        size = (entry["height"], entry["width"]) if entry.get("height") and entry.get("width") else None
        drawings.append(Drawing(place(name) or file.parent / name, size, by_image[entry["id"]]))
    return Document(file, names, drawings, lost)


def _shape(entry: dict[str, Any], names: dict[int, str], images: dict[Any, Any]) -> Shape | Lost:
    id, segmentation = entry.get("id"), entry.get("segmentation")
    if entry.get("image_id") not in images:
        return Lost(id, "image-missing", f"it is of image {entry.get('image_id')}, which is not listed")
    if entry.get("category_id") not in names:
        return Lost(id, "mask-id-unknown", f"its category {entry.get('category_id')} is not listed")
    if isinstance(segmentation, dict):
        if not {"size", "counts"} <= set(segmentation):
            return Lost(id, "annotation-unreadable", "its run lengths have no size or no counts")
    else:
        polygons = [p for p in segmentation or [] if isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0]
        if not polygons or len(polygons) != len(segmentation):
            why = "not every polygon has three corners" if segmentation else "it has no segmentation"
            return Lost(id, "annotation-unreadable", why)
        segmentation = [np.array(polygon, float) for polygon in polygons]  # a tenth of the memory of lists
    return Shape(entry["category_id"], bool(entry.get("iscrowd")), segmentation)


def _size_of(image: Path) -> tuple[int, int]:
    try:
        with Image.open(image) as header:
            return upright_size(header)
    except OSError as error:
        raise BrokenFiles(f"{image}: {error}") from None
