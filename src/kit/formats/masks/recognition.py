"""Recognise the format of a data set with masks."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from kit.formats import coco_search
from kit.formats.evidence import Evidence, found_formats
from kit.formats.masks.masks import Reader
from kit.formats.pairs import MASKS, Pairs, find_pairs, may_have_masks
from kit.formats.recognition import choose_format
from kit.ground.errors import UserError
from kit.ground.faults import Fault


class MaskSplit(NamedTuple):
    """The images of a split, for each an entry from which `reader` reads its mask, and the name of the format."""

    images: list[Path]
    targets: Sequence[Any]
    reader: Reader
    format_name: str


class MaskFormat(Protocol):
    """The interface of a data set with masks. Each format has a class that implements it."""

    def class_names(self) -> list[str]:
        """Return the names of the classes.

        Raises:
            UserError: the files do not tell the classes.
        """

    def example_images(self) -> list[Path]:
        """Return the images of train, or of the first split if there is no train."""

    def read(self, split: str, class_names: Sequence[str]) -> MaskSplit | None:
        """Return the usable images of a split, or None if there are none. class_names: those of the data module.

        Raises:
            UserError: the split cannot be used.
        """

    def pixel_values(self) -> list[tuple[Any, ...]]:
        """Return the pixel values of each class, for the checkpoint: other data are then read with the same classes."""
        return []

    def use_pixel_values(self, values: Iterable[Sequence[Any]]) -> None:
        """Read masks with the pixel values that a checkpoint has kept. An empty list changes nothing."""

    def faults(self, class_names: Callable[[], Sequence[str]]) -> Iterable[Fault]:
        """Yield the faults of all splits. class_names: returns those of the data module, or raises a `UserError`."""


def find_masks(
    root: Path, format: str | None, image_folder: str | None, mask_folder: str | None
) -> dict[str, Pairs] | None:
    """Return the images and masks of each split, or None if the data are in COCO's format.

    Args:
        root: the folder of the data set.
        format: "masks", "coco", or None to recognise the format. JSON files without polygons and run lengths, such as
            those with boxes, do not count beside masks. If there are no pairs of images and masks, JSON files with any
            of COCO's lists count.
        image_folder, mask_folder: see `kit.formats.pairs.find_pairs`.

    Raises:
        UserError: masks are found in no format, or in two formats and `format` is None.
    """
    if format == "coco":
        return None
    json_files = coco_search.find_evidence(root, coco_search.SHAPES)
    if format is None and mask_folder is None and json_files.is_sure() and not may_have_masks(root):
        return None
    try:
        pairs = find_pairs(root, MASKS, image_folder, mask_folder)
    except UserError:
        if format == "masks" or not coco_search.find_evidence(root).is_sure():
            raise
        return None
    masks = [file for split in pairs.values() for file in split.files]
    found = found_formats({"masks": Evidence(masks, "mask", lambda _: True), "coco": json_files})
    return pairs if (format or choose_format(root, found, "")) == "masks" else None
