"""COCO's JSON: what stands in it, and its polygons and run lengths drawn as masks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kit.data.decode import errors_as_broken_files, upright_size
from kit.formats.coco import Crowds, categories, finder, joined, number, read, whole_number
from kit.formats.masks.masks import IGNORED
from kit.ground.errors import BrokenFiles
from kit.ground.reading import open_image

FAR = 10  # times an image's longer side: no real corner lies that far out, and drawing one takes memory by its distance
LONGEST = 2_000_000  # pixels of a polygon's outline
LARGEST = 2 * (Image.MAX_IMAGE_PIXELS or 2**27)  # pixels: Pillow reads no larger image


class Shape(NamedTuple):
    """One annotation: polygons, each Float64[2 V] of x, y, x, y, ..., or run lengths as COCO writes them."""

    id: Any
    category: int
    crowd: bool
    segmentation: Any


class Drawing(NamedTuple):
    """What is annotated on an image. size: height and width; None where the JSON does not say."""

    image: Path
    size: tuple[int, int] | None
    shapes: list[Shape]


class Painted(NamedTuple):
    """A mask, uint8 [h w], and the shapes that could not be drawn, with the reason, or have no pixel."""

    mask: np.ndarray
    broken: list[tuple[Shape, str]]
    empty: list[Shape]


class Lost(NamedTuple):
    """What is of no use. what: an annotation, or an image's size. kind: as of a `Fault`."""

    what: str
    kind: str
    why: str


class Document(NamedTuple):
    """A JSON file.

    categories: id to name.
    joined: messages about categories that have the same name.
    """

    file: Path
    categories: dict[int, str]
    drawings: list[Drawing]
    lost: list[Lost]
    joined: list[str]

    def crowds(self) -> dict[str, tuple[int, int]]:
        """Return, for each class with crowds, the number of its crowds and of all its annotations."""
        shapes = [shape for drawing in self.drawings for shape in drawing.shapes]
        total = Counter(self.categories[shape.category] for shape in shapes)
        crowds = Counter(self.categories[shape.category] for shape in shapes if shape.crowd)
        return {name: (count, total[name]) for name, count in sorted(crowds.items())}


@dataclass(frozen=True)
class CocoShapes:
    """Draw the annotations of an image, later ones over earlier ones; all other pixels are class 0.

    file: the JSON file that the drawings come from.
    numbers: `(category id, class number)`.
    crowds: "objects" draws crowds like all other annotations, "ignore" as pixels to ignore.
    """

    file: Path
    numbers: tuple[tuple[int, int], ...]
    crowds: Crowds = "ignore"

    def read(self, target: Drawing) -> np.ndarray:
        painted = self.paint(target)
        for _, why in painted.broken:
            raise BrokenFiles(f"{self.file}: an annotation of {target.image.name} cannot be drawn ({why})")
        return painted.mask

    def known(self, target: Drawing) -> np.ndarray:
        return self.paint(target).mask

    def paint(self, target: Drawing) -> Painted:
        from faster_coco_eval.core import mask as rle

        size, numbers = target.size or _size_of(target.image), dict(self.numbers)
        painted = Painted(np.zeros(size, np.uint8), [], [])
        for shape in target.shapes:
            try:
                inside = np.asarray(rle.decode(as_runs(shape.segmentation, size))).any(2)
            except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
                painted.broken.append((shape, str(error)))
                continue
            ignored = shape.crowd and self.crowds == "ignore"
            painted.mask[inside] = IGNORED if ignored else numbers[shape.category]
            if not inside.any():
                painted.empty.append(shape)
        return painted

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
    sizes, lost = {}, []
    for entry in content["images"]:
        size = _listed_size(entry)
        sizes[entry["id"]] = None if isinstance(size, Lost) else size
        if isinstance(size, Lost):
            lost.append(size)
    for entry in content["annotations"]:
        try:
            shape = _shape(entry, names, sizes)
            by_image[entry["image_id"]].append(shape)
        except _Unusable as error:
            lost.append(Lost(f"annotation {entry.get('id')}", error.kind, str(error)))
    drawings = []
    for entry in content["images"]:
        name = str(entry["file_name"])
        drawings.append(Drawing(place(name) or file.parent / name, sizes[entry["id"]], by_image[entry["id"]]))
    return Document(file, names, drawings, lost, joined(content, names))


class _Unusable(Exception):
    def __init__(self, why: str, kind: str = "annotation-unreadable") -> None:
        super().__init__(why)
        self.kind = kind


def _listed_size(entry: dict[str, Any]) -> tuple[int, int] | Lost | None:
    """An image's height and width, where they are listed and can be an image's."""
    height, width = entry["height"], entry["width"]
    if height is None:
        return None
    if height * width > LARGEST:
        why = f"{height!r} high and {width!r} wide is no image's"
        return Lost(f"the size of {entry['file_name']}", "annotation-unreadable", why)
    return height, width


def _shape(entry: dict[str, Any], names: dict[int, str], sizes: dict[Any, tuple[int, int] | None]) -> Shape:
    image, category, segmentation = entry.get("image_id"), entry.get("category_id"), entry.get("segmentation")
    if image not in sizes:
        raise _Unusable(f"it is of image {image}, which is not listed", "image-missing")
    if category not in names:
        raise _Unusable(f"its category {category} is not listed", "mask-id-unknown")
    drawn = _runs(segmentation) if isinstance(segmentation, dict) else _polygons(segmentation, sizes[image])
    return Shape(entry.get("id"), category, entry["iscrowd"], drawn)


def _runs(segmentation: dict[str, Any]) -> dict[str, Any]:
    """Return run lengths as COCO writes them, with texts that mean numbers as numbers."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or not isinstance(counts, (list, str)):
        raise _Unusable("its run lengths have no size or no counts")
    size = [whole_number(side) for side in size]
    if isinstance(counts, list):
        counts = [whole_number(count) for count in counts]
    numbers = [*size, *(counts if isinstance(counts, list) else ())]
    if len(size) != 2 or not all(number is not None and number >= 0 for number in numbers):
        raise _Unusable("its run lengths are no whole numbers")
    if isinstance(counts, list) and sum(counts) > size[0] * size[1]:
        raise _Unusable("its run lengths cover more than the image")
    return {"size": size, "counts": counts}


def _polygons(segmentation: Any, size: tuple[int, int] | None) -> list[np.ndarray]:
    """Each Float64[2 V]: a tenth of the memory of lists."""
    if not segmentation:
        raise _Unusable("it has no segmentation")
    if not isinstance(segmentation, list):
        raise _Unusable("its segmentation is no list of polygons")
    if not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in segmentation):
        raise _Unusable("not every polygon has three corners")
    polygons = [_corners(polygon) for polygon in segmentation]
    furthest = max(np.abs(polygon).max() for polygon in polygons)
    if furthest > FAR * max(size or (2**16,)):
        raise _Unusable(f"it has a corner at {furthest:g}, far outside of its image")
    for polygon in polygons:
        _require_short(polygon)
    return polygons


def _require_short(polygon: np.ndarray) -> None:
    """Refuse a polygon with a very long outline, since drawing takes memory and time by its length.

    A zigzag of 20,000 corners may take 5 GB and a minute.

    Raises:
        _Unusable: it is longer than `LONGEST`.
    """
    if len(polygon) * np.ptp(polygon) <= LONGEST:
        return
    corners = polygon.reshape(-1, 2)
    length = np.abs(corners - np.roll(corners, 1, axis=0)).max(1).sum()
    if length > LONGEST:
        raise _Unusable(f"its outline is {length:,.0f} pixels long, but may have at most {LONGEST:,}")


def _corners(polygon: list[Any]) -> np.ndarray:
    """Return a polygon as Float64[2 V].

    NumPy converts a list of numbers fast. If that fails, since some are written as text, they are converted one by one.
    """
    try:
        corners = np.array(polygon)
    except (ValueError, OverflowError):  # lists of different lengths, or a huge number
        corners = np.array(None)
    if corners.ndim == 1 and corners.dtype.kind in "if" and np.isfinite(corners).all():
        return corners.astype(float)
    numbers = [number(value) for value in polygon]
    if None in numbers:
        raise _Unusable("not every corner is a pair of numbers")
    return np.array(numbers, float)


def _size_of(image: Path) -> tuple[int, int]:
    with errors_as_broken_files(image), open_image(image) as header:
        return upright_size(header)
