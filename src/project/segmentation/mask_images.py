"""Mask files: index and palette images by their ids, coloured ones by the colours of a class table."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from project import UserError
from project.pipeline.decode import reading, upright
from project.segmentation.masks import IGNORED, UNKNOWN
from project.segmentation.tables import Entry


class Values(NamedTuple):
    """What stands in a mask file: numbers [h w], or colours uint8 [h w 3]."""

    values: np.ndarray
    palette: bool
    jpeg: bool


@dataclass(frozen=True)
class MaskImages:
    """The class number of each value that a mask may hold; 255 where it is ignored, `UNKNOWN` where it is no class's.

    numbers: of the 256 ids of index and palette masks.
    greys: of the 256 greys, where the classes are told by greys and not by ids (black and white masks).
    colours: `(red << 16 | green << 8 | blue, number)`, sorted; None where no colours are known.
    """

    numbers: tuple[int, ...]
    greys: tuple[int, ...] | None = None
    colours: tuple[tuple[int, int], ...] | None = None

    def read(self, target: Path) -> np.ndarray:
        found = values_of(target)
        mask = self.classes(found)
        if (mask == UNKNOWN).any():
            raise UserError(f"{target}: {self.complaint(found, mask)}")
        return mask

    def known(self, target: Path) -> np.ndarray:
        return self.classes(values_of(target))

    def files(self, targets: Sequence[Path]) -> list[Path]:
        return list(targets)

    def classes(self, found: Values) -> np.ndarray:
        """Class numbers, uint8 [h w]."""
        values = found.values
        if values.ndim == 3 and self.colours is not None:
            known, numbers = np.array(self.colours).T
            packed = _packed(values)
            place = np.searchsorted(known, packed).clip(max=len(known) - 1)
            return np.where(known[place] == packed, numbers[place], UNKNOWN).astype(np.uint8)
        if values.ndim == 3:
            if not _is_grey(values):
                return np.full(values.shape[:2], UNKNOWN, np.uint8)
            values = values[..., 0]
        table = np.array(self.numbers if self.greys is None or found.palette else self.greys, np.uint8)
        if values.dtype == np.uint8:
            return table[values]
        outside = (values < 0) | (values > 255)
        return np.where(outside, UNKNOWN, table[np.where(outside, 0, values).astype(np.uint8)]).astype(np.uint8)

    def complaint(self, found: Values, mask: np.ndarray, most: int = 5) -> str:
        """About the values that are no class's, and what to do."""
        unknown = found.values[mask == UNKNOWN]
        if unknown.ndim == 2 and (self.colours is not None or not _is_grey(found.values)):
            values = np.unique(_packed(unknown))
            words = [f"({c >> 16} {c >> 8 & 255} {c & 255})" for c in values[:most].tolist()]
            what, remedy = "colour", "give each class's with --data.colors"
        else:
            values = np.unique(unknown[..., 0] if unknown.ndim == 2 else unknown)
            words = [str(value) for value in values[:most].tolist()]
            what, remedy = "id", "give --data.class_names, or add them to --data.ignore"
        several = "s" if len(values) > 1 else ""
        more = f" and {len(values) - most} more" if len(values) > most else ""
        lossy = "; JPEG changes values, save masks as PNG" if found.jpeg else ""
        return f"{what}{several} {', '.join(words)}{more} of no class; {remedy}{lossy}"


def reader_of(numbers: Mapping[Entry, int], ignored: Iterable[int], black_and_white: bool) -> MaskImages:
    """The reader for a class table.

    Args:
        numbers: the class number of each entry, or 255.
        ignored: ids that need not stand in the table.
        black_and_white: of two classes, the first is black and the second white.
    """
    ids, greys = [UNKNOWN] * 256, [UNKNOWN] * 256
    ids[IGNORED] = greys[IGNORED] = IGNORED
    colours = {}
    for entry, number in numbers.items():
        if entry.id < IGNORED:
            ids[entry.id] = number
        if entry.colour is not None:
            red, green, blue = entry.colour
            colours[red << 16 | green << 8 | blue] = greys[red] = number
    for id in ignored:
        ids[id] = IGNORED
    if black_and_white and not colours:
        greys[0], greys[255] = numbers.values()
    only_greys = bool(colours) and all(len(set(entry.colour or ())) == 1 for entry in numbers)
    by_grey = tuple(greys) if only_greys or (black_and_white and not colours) else None
    return MaskImages(tuple(ids), by_grey, tuple(sorted(colours.items())) or None)


def values_of(path: Path) -> Values:
    """A mask file's content, never converted: palette images give their indices.

    Raises:
        BrokenFiles: it cannot be read.
    """
    with reading(path), Image.open(path) as image:
        jpeg = image.format in ("JPEG", "MPO")
        image = upright(image)
        if image.mode in ("P", "PA", "L", "LA", "1"):
            values = np.asarray(image).astype(np.uint8)
            values = values[..., 0] if values.ndim == 3 else values
        elif image.mode.startswith("I") or image.mode == "F":
            values = np.asarray(image).astype(np.int32)
        else:
            values = np.asarray(image.convert("RGB"))
        return Values(values, image.mode.startswith("P"), jpeg)


def _packed(colours: np.ndarray) -> np.ndarray:
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _is_grey(colours: np.ndarray) -> bool:
    return bool((colours == colours[..., :1]).all())
