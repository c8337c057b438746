"""COCO's JSON: where it lies, what stands in it, and its polygons and run lengths drawn as masks."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from project import BrokenFiles, UserError
from project.pipeline.decode import upright_size
from project.pipeline.folders import SPLITS, folders
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


def find_documents(root: Path, annotations: str | None = None) -> dict[str, Path]:
    """The JSON of each split: `annotations/instances_train2017.json`, `train/_annotations.coco.json`, or a single one.

    Raises:
        UserError: there is none, or several could be meant.
    """
    if annotations is not None:
        if not (root / annotations).is_file():
            raise UserError(f"no annotations at {(root / annotations).absolute()}; give them with --data.annotations")
        return {"train": root / annotations}
    places = [root, *(folder for folder in folders(root))]
    files = [file for place in places for file in sorted(place.glob("*.json")) if not file.name.startswith(".")]
    instances = [file for file in files if "instances" in file.name.lower() or file.name.endswith(".coco.json")]
    found: dict[str, Path] = {}
    for file in instances or files:
        split = _split_of(file, root) or "train"
        if split in found:
            raise UserError(
                f"{root} has several annotations for {split}: {found[split].relative_to(root)}, "
                f"{file.relative_to(root)}; say which: --data.annotations FILE"
            )
        found[split] = file
    if not found and len(inner := folders(root)) == 1:  # an archive's own folder
        return find_documents(inner[0])
    if not found:
        raise UserError(
            f"no COCO annotations in {root}; expected annotations/instances_train.json, "
            "train/_annotations.coco.json or one .json; else name it: --data.annotations FILE"
        )
    return {split: found[split] for split in SPLITS if split in found}


def _split_of(file: Path, root: Path) -> str | None:
    """By the words in the file's name, or else by the name of its folder."""
    words = re.findall("[a-z]+", file.stem.lower())
    words += [] if file.parent == root else re.findall("[a-z]+", file.parent.name.lower())
    return next((split for word in words for split, names in SPLITS.items() if word in names), None)


def read_document(file: Path, root: Path, images_in: str | None = None) -> Document:
    """Everything in a JSON file.

    Raises:
        BrokenFiles: it is no JSON, or not COCO's.
    """
    try:
        content = json.loads(file.read_bytes())
        categories = _categories(content)
        folder = _image_folder(content["images"], file, root, images_in)
        by_image: dict[Any, list[Shape]] = {entry["id"]: [] for entry in content["images"]}
        lost = []
        for entry in content["annotations"]:
            shape = _shape(entry, categories, by_image)
            if isinstance(shape, Lost):
                lost.append(shape)
            else:
                by_image[entry["image_id"]].append(shape)
        drawings = []
        for entry in content["images"]:
            size = (entry["height"], entry["width"]) if entry.get("height") and entry.get("width") else None
            drawings.append(Drawing(folder / entry["file_name"], size, by_image[entry["id"]]))
    except json.JSONDecodeError as error:
        raise BrokenFiles(f"{file}:{error.lineno}: not JSON ({error.msg})") from None
    except UnicodeDecodeError as error:
        raise BrokenFiles(f"{file}: not JSON ({error.reason})") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise BrokenFiles(f"{file}: not annotations as COCO has them ({type(error).__name__}: {error})") from None
    return Document(file, categories, drawings, lost)


def _categories(content: dict[str, Any]) -> dict[int, str]:
    """By id; without Roboflow's first one, which only stands above the others."""
    used = {entry["category_id"] for entry in content["annotations"]}
    above = {entry.get("supercategory") for entry in content["categories"]}
    entries = sorted(content["categories"], key=lambda entry: entry["id"])
    kept = [e for e in entries if e["id"] in used or not (e["name"] in above and e.get("supercategory") == "none")]
    return {entry["id"]: entry["name"] for entry in kept}


def _shape(entry: dict[str, Any], categories: dict[int, str], images: dict[Any, Any]) -> Shape | Lost:
    id, segmentation = entry.get("id"), entry.get("segmentation")
    if entry.get("image_id") not in images:
        return Lost(id, "image-missing", f"it is of image {entry.get('image_id')}, which is not listed")
    if entry.get("category_id") not in categories:
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


def _image_folder(entries: list[dict[str, Any]], file: Path, root: Path, images_in: str | None) -> Path:
    """The folder below which most of the first images are."""
    if images_in is not None:
        return root / images_in
    names = [entry["file_name"] for entry in entries[:20]]
    candidates = list(_likely_folders(file, root))
    return max(candidates, key=lambda folder: sum((folder / name).is_file() for name in names))


def _likely_folders(file: Path, root: Path) -> Iterator[Path]:
    yield from (file.parent, root)
    split = _split_of(file, root)
    below = [inner for folder in folders(root) for inner in (folder, *folders(folder))]
    of_split = [f for f in below if split and set(re.findall("[a-z]+", f.name.lower())) & set(SPLITS[split])]
    yield from (*of_split, *below)


def _size_of(image: Path) -> tuple[int, int]:
    try:
        with Image.open(image) as header:
            return upright_size(header)
    except OSError as error:
        raise BrokenFiles(f"{image}: {error}") from None
