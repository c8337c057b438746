"""Recognise whether a data set has mask files or COCO's JSON files, and list its classes, masks and faults."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kit.formats import coco_search
from kit.formats.coco import Crowds, Document, crowd_faults, list_crowds, only_crowds_problem
from kit.formats.masks import coco
from kit.formats.masks.classes import class_number
from kit.formats.masks.faults import mask_faults
from kit.formats.masks.masks import Reader
from kit.formats.pairs import MASKS, Pairs, find_pairs
from kit.formats.paths import unlisted_images
from kit.formats.recognition import Evidence, choose_format, possible_formats
from kit.formats.text import unreadable_fault
from kit.ground.errors import UserError
from kit.ground.faults import Fault, fault


class MaskSplit(NamedTuple):
    """The images of a split, and a target for each image, which `reader` reads as a mask."""

    images: list[Path]
    targets: Sequence[Any]
    reader: Reader


class MaskFormat(Protocol):
    """The interface of a data set with masks. Each format has a class that implements it."""

    def class_names(self) -> list[str]:
        """Return the names of the classes.

        Raises:
            UserError: the files do not define the classes.
        """

    def example_images(self) -> list[Path]:
        """Return the images of train, or of the first split if there is no train."""

    def read(self, split: str, class_names: Sequence[str]) -> MaskSplit | None:
        """Return the usable images of a split, or None if there are none. class_names: the names in the data module.

        Raises:
            UserError: the split cannot be used.
        """

    def pixel_values(self) -> list[tuple[Any, ...]]:
        """Return the pixel values of the classes, which a checkpoint stores to read other data with these classes."""
        return []

    def use_pixel_values(self, values: Iterable[Sequence[Any]]) -> None:
        """Read masks with the pixel values that a checkpoint has stored. An empty list changes nothing."""

    def faults(self, class_names: Callable[[], Sequence[str]]) -> Iterable[Fault]:
        """Yield the faults of all splits. class_names: returns the names, or raises a `UserError`."""


def find_masks(
    root: Path, format: str | None, image_folder: str | None, mask_folder: str | None
) -> dict[str, Pairs] | None:
    """Return the images and masks of each split, or None if the data are in COCO's format.

    Args:
        root: the folder of the data set.
        format: "masks", "coco", or None to recognise the format. If there are pairs of images and masks, only JSON
            files with polygons or run lengths count, and not, for example, files with boxes. If there are no pairs, all
            JSON files with one of COCO's lists count.
        image_folder, mask_folder: see `kit.formats.pairs.find_pairs`.

    Raises:
        UserError: masks are found in no format, or in two formats and `format` is None.
    """
    if format == "coco":
        return None
    try:
        pairs = find_pairs(root, MASKS, image_folder, mask_folder)
    except UserError:
        if format == "masks" or not coco_search.find_evidence(root).is_confirmed():
            raise
        return None
    masks = [file for split in pairs.values() for file in split.files]
    polygons = coco_search.find_evidence(root, coco_search.SHAPES)
    formats = possible_formats({"masks": Evidence(masks, "mask", lambda _: True), "coco": polygons})
    return pairs if (format or choose_format(root, formats, "")) == "masks" else None


BACKGROUND = "background"  # class 0: all pixels without an annotation


class CocoFiles(MaskFormat):
    """A data set in COCO's format.

    Args:
        root: the folder of the data set.
        files: the file that the user gave for each split, relative to `root`, or None. See `coco_search.find`.
        images_folder: the folder of the images, relative to `root`; None to find it.
        crowds: how to use annotations with `iscrowd` 1, "ignore" or "objects". See `CocoShapes`.

    Attributes:
        files: the JSON file of each split.
    """

    def __init__(self, root: Path, files: dict[str, str | None], images_folder: str | None, crowds: Crowds) -> None:
        self.root, self.images_folder, self.crowds = root, images_folder, crowds
        self.files = coco_search.find(root, files)
        self._documents: dict[str, Document] = {}

    def document(self, split: str) -> Document:
        """Return the content of a split's file, which is read only once."""
        if split not in self._documents:
            self._documents[split] = coco.read(self.files[split], self.root, self.images_folder)
        return self._documents[split]

    def main_document(self) -> Document:
        """Return the document that defines the classes: train's, or the first one if there is no train."""
        return self.document("train" if "train" in self.files else next(iter(self.files)))

    def class_names(self) -> list[str]:
        """Return `background` and the names of all other categories, each once."""
        names = self.main_document().categories.values()
        return [BACKGROUND, *dict.fromkeys(name for name in names if name.lower() != BACKGROUND)]

    def reader(self, document: Document, class_names: Sequence[str]) -> coco.CocoShapes:
        """Return the object that draws annotations as masks. `class_names` are the names in the data module."""
        names = {id: BACKGROUND if name.lower() == BACKGROUND else name for id, name in document.categories.items()}
        numbers = tuple((id, class_number(name, class_names, self.root)) for id, name in names.items())
        return coco.CocoShapes(document.file, numbers, self.crowds, class_number(BACKGROUND, class_names, self.root))

    def example_images(self) -> list[Path]:
        return [image.path for image in self.main_document().images]

    def read(self, split: str, class_names: Sequence[str]) -> MaskSplit | None:
        """Return the images of a split and their annotations. Warn of faults and of crowds.

        Raises:
            UserError: nothing can be drawn, a category is not listed, or all training objects of a class are crowds.
        """
        if split not in self.files:
            return None
        document = self.document(split)
        if not any(image.annotations for image in document.images):
            reason = f" ({document.faults[0].message})" if document.faults else ""
            raise UserError(f"{document.file}: nothing in it can be drawn as a mask{reason}")
        for kind, count in Counter(item.kind for item in document.faults).items():
            first = next(item for item in document.faults if item.kind == kind)
            if kind == "class-unknown":
                raise UserError(f"{document.file}: {first.message}")
            warnings.warn(f"{document.file}: {kind} ({count:,}), for example: {first.message}", stacklevel=1)
        if self.crowds == "ignore" and (crowds := coco.crowds(document)):
            if split == "train" and (problem := only_crowds_problem(crowds)):
                raise UserError(f"{document.file}: {problem}")
            message = f"crowds are neither trained on nor measured: {list_crowds(crowds)}"
            warnings.warn(f"{document.file}: {message}", stacklevel=1)
        images = [image.path for image in document.images]
        return MaskSplit(images, document.images, self.reader(document, class_names))

    def faults(self, class_names: Callable[[], Sequence[str]]) -> Iterator[Fault]:
        for split, file in self.files.items():
            try:
                document = self.document(split)
                reader = self.reader(document, class_names())
            except UserError as error:
                yield unreadable_fault(file, error)
                continue
            yield from document.faults
            if self.crowds == "ignore":
                yield from crowd_faults(coco.crowds(document), file)
            yield from mask_faults(reader, ((image.path, image.path, image) for image in document.images))
        listed = {image.path for document in self._documents.values() for image in document.images}
        for path in unlisted_images(listed):
            yield fault("mask-missing", path, "an image that no annotation file lists", severity="warning")
