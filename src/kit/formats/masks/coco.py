"""Read masks from COCO's JSON: check its annotations, and draw their polygons and run lengths as masks."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from kit.data.decode import broken_file_errors, upright_size
from kit.formats.coco import Crowds, categories, image_finder, number, read, same_names, whole_number
from kit.formats.masks.masks import IGNORED
from kit.ground.errors import BrokenFiles
from kit.ground.files import open_image

# How far out a corner may be, in times of the image's longer side. Drawing a corner takes memory by its distance.
MAX_DISTANCE = 10
MAX_OUTLINE = 2_000_000  # pixels of a polygon's outline
MAX_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**27)  # Pillow reads no larger image


class Shape(NamedTuple):
    """One annotation. segmentation: polygons, each Float64[2 V] of x, y, x, y, ..., or run lengths as in the JSON."""

    id: Any
    category: int
    crowd: bool
    segmentation: Any


class Drawing(NamedTuple):
    """The annotations of an image. size: height and width; None if the JSON has none."""

    image: Path
    size: tuple[int, int] | None
    shapes: list[Shape]


class DrawnMask(NamedTuple):
    """A mask, uint8 [h w], and its problems.

    broken: the shapes that cannot be drawn, each with the reason.
    empty: the shapes without a pixel.
    """

    mask: np.ndarray
    broken: list[tuple[Shape, str]]
    empty: list[Shape]


class Unusable(NamedTuple):
    """What cannot be used in a JSON file. what: an annotation, or an image's size. kind: the kind of a `Fault`."""

    what: str
    kind: str
    why: str


class Document(NamedTuple):
    """The content of a JSON file.

    categories: the names of the categories by their ids.
    same_names: messages about categories that have the same name.
    """

    file: Path
    categories: dict[int, str]
    drawings: list[Drawing]
    unusable: list[Unusable]
    same_names: list[str]

    def crowds(self) -> dict[str, tuple[int, int]]:
        """Return, for each class with crowds, the number of its crowds and of all its annotations."""
        shapes = [shape for drawing in self.drawings for shape in drawing.shapes]
        total = Counter(self.categories[shape.category] for shape in shapes)
        crowds = Counter(self.categories[shape.category] for shape in shapes if shape.crowd)
        return {name: (count, total[name]) for name, count in sorted(crowds.items())}


@dataclass(frozen=True)
class CocoShapes:
    """Draw the annotations of an image, later ones over earlier ones. All other pixels are class 0.

    file: the JSON file with the annotations.
    numbers: `(category id, class number)`.
    crowds: "objects" draws crowds like all other annotations; "ignore" draws them as pixels to ignore.
    """

    file: Path
    numbers: tuple[tuple[int, int], ...]
    crowds: Crowds = "ignore"

    def read(self, target: Drawing) -> np.ndarray:
        drawn = self.draw(target)
        for _, why in drawn.broken:
            raise BrokenFiles(f"{self.file}: an annotation of {target.image.name} cannot be drawn ({why})")
        return drawn.mask

    def read_known(self, target: Drawing) -> np.ndarray:
        return self.draw(target).mask

    def draw(self, target: Drawing) -> DrawnMask:
        """Draw all annotations that can be drawn."""
        from faster_coco_eval.core import mask as rle

        size, numbers = target.size or _size_of(target.image), dict(self.numbers)
        drawn = DrawnMask(np.zeros(size, np.uint8), [], [])
        for shape in target.shapes:
            try:
                inside = np.asarray(rle.decode(as_runs(shape.segmentation, size))).any(2)
            except (ValueError, TypeError, KeyError, IndexError, RuntimeError) as error:
                drawn.broken.append((shape, str(error)))
                continue
            ignored = shape.crowd and self.crowds == "ignore"
            drawn.mask[inside] = IGNORED if ignored else numbers[shape.category]
            if not inside.any():
                drawn.empty.append(shape)
        return drawn

    def files(self, targets: Sequence[Drawing]) -> list[Path]:
        return [self.file]


def as_runs(segmentation: Any, size: tuple[int, int]) -> list[dict[str, Any]]:
    """Return compressed run lengths of polygons, or of run lengths that are compressed or not.

    Args:
        size: the height and width of the image.

    Raises:
        ValueError: the run lengths are for another size.
    """
    from faster_coco_eval.core import mask as rle

    if isinstance(segmentation, dict):
        if tuple(segmentation["size"]) != size:
            raise ValueError(f"run lengths for an image of {segmentation['size']}, not {list(size)}")
        counts = segmentation["counts"]
        return [rle.frPyObjects(segmentation, *size) if isinstance(counts, list) else segmentation]
    return rle.frPyObjects([polygon.tolist() for polygon in segmentation], *size)


def read_document(file: Path, root: Path, images_in: str | None = None) -> Document:
    """Read a JSON file.

    Args:
        root: the folder of the data set.
        images_in: the folder below `root` that has the images, if the user has given it.

    Raises:
        BrokenFiles: the file is not JSON, or not in COCO's format.
    """
    content, find_image = read(file), image_finder(file, root, images_in)
    names = categories(content)
    by_image: dict[Any, list[Shape]] = {entry["id"]: [] for entry in content["images"]}
    sizes, unusable = {}, []
    for entry in content["images"]:
        size = _listed_size(entry)
        sizes[entry["id"]] = None if isinstance(size, Unusable) else size
        if isinstance(size, Unusable):
            unusable.append(size)
    for entry in content["annotations"]:
        try:
            shape = _shape(entry, names, sizes)
            by_image[entry["image_id"]].append(shape)
        except _UnusableError as error:
            unusable.append(Unusable(f"annotation {entry.get('id')}", error.kind, str(error)))
    drawings = []
    for entry in content["images"]:
        name = str(entry["file_name"])
        drawings.append(Drawing(find_image(name) or file.parent / name, sizes[entry["id"]], by_image[entry["id"]]))
    return Document(file, names, drawings, unusable, same_names(content, names))


class _UnusableError(Exception):
    def __init__(self, why: str, kind: str = "annotation-unreadable") -> None:
        super().__init__(why)
        self.kind = kind


def _listed_size(entry: dict[str, Any]) -> tuple[int, int] | Unusable | None:
    """Return the height and width that are listed for an image, None if there are none, or that they are unusable."""
    height, width = entry["height"], entry["width"]
    if height is None:
        return None
    if height * width > MAX_PIXELS:
        why = f"{height!r} high and {width!r} wide is more than an image has"
        return Unusable(f"the size of {entry['file_name']}", "annotation-unreadable", why)
    return height, width


def _shape(entry: dict[str, Any], names: dict[int, str], sizes: dict[Any, tuple[int, int] | None]) -> Shape:
    image, category, segmentation = entry.get("image_id"), entry.get("category_id"), entry.get("segmentation")
    if image not in sizes:
        raise _UnusableError(f"it is of image {image}, which is not listed", "image-missing")
    if category not in names:
        raise _UnusableError(f"its category {category} is not listed", "mask-id-unknown")
    shape = _runs(segmentation) if isinstance(segmentation, dict) else _polygons(segmentation, sizes[image])
    return Shape(entry.get("id"), category, entry["iscrowd"], shape)


def _runs(segmentation: dict[str, Any]) -> dict[str, Any]:
    """Return run lengths as in COCO's JSON, with numbers instead of texts that stand for them."""
    size, counts = segmentation.get("size"), segmentation.get("counts")
    if not isinstance(size, list) or not isinstance(counts, (list, str)):
        raise _UnusableError("its run lengths have no size or no counts")
    size = [whole_number(side) for side in size]
    if isinstance(counts, list):
        counts = [whole_number(count) for count in counts]
    numbers = [*size, *(counts if isinstance(counts, list) else ())]
    if len(size) != 2 or not all(number is not None and number >= 0 for number in numbers):
        raise _UnusableError("its run lengths are no whole numbers")
    if isinstance(counts, list) and sum(counts) > size[0] * size[1]:
        raise _UnusableError("its run lengths cover more than the image")
    return {"size": size, "counts": counts}


def _polygons(segmentation: Any, size: tuple[int, int] | None) -> list[np.ndarray]:
    """Return polygons, each Float64[2 V], which takes a tenth of the memory of lists."""
    if not segmentation:
        raise _UnusableError("it has no segmentation")
    if not isinstance(segmentation, list):
        raise _UnusableError("its segmentation is no list of polygons")
    if not all(isinstance(p, list) and len(p) >= 6 and len(p) % 2 == 0 for p in segmentation):
        raise _UnusableError("not every polygon has three corners")
    polygons = [_corners(polygon) for polygon in segmentation]
    furthest = max(np.abs(polygon).max() for polygon in polygons)
    if furthest > MAX_DISTANCE * max(size or (2**16,)):
        raise _UnusableError(f"it has a corner at {furthest:g}, far outside of its image")
    for polygon in polygons:
        _require_short(polygon)
    return polygons


def _require_short(polygon: np.ndarray) -> None:
    """Refuse a polygon with a very long outline, since drawing takes memory and time by its length.

    A zigzag of 20,000 corners may take 5 GB and a minute.

    Raises:
        _UnusableError: it is longer than `MAX_OUTLINE`.
    """
    if len(polygon) * np.ptp(polygon) <= MAX_OUTLINE:
        return
    corners = polygon.reshape(-1, 2)
    length = np.abs(corners - np.roll(corners, 1, axis=0)).max(1).sum()
    if length > MAX_OUTLINE:
        raise _UnusableError(f"its outline is {length:,.0f} pixels long, but may have at most {MAX_OUTLINE:,}")


def _corners(polygon: list[Any]) -> np.ndarray:
    """Return a polygon as Float64[2 V].

    NumPy converts a list of numbers fast. If some are written as text, they are converted one by one.
    """
    try:
        corners = np.array(polygon)
    except (ValueError, OverflowError):  # lists of different lengths, or a huge number
        corners = np.array(None)
    if corners.ndim == 1 and corners.dtype.kind in "if" and np.isfinite(corners).all():
        return corners.astype(float)
    numbers = [number(value) for value in polygon]
    if None in numbers:
        raise _UnusableError("not every corner is a pair of numbers")
    return np.array(numbers, float)


def _size_of(image: Path) -> tuple[int, int]:
    with broken_file_errors(image), open_image(image) as header:
        return upright_size(header)
