"""Read mask files: map their pixel values, or the colours of a class table, to class numbers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kit.data.decode import broken_file_errors, upright
from kit.formats.masks.class_tables import HIGHEST_ID, Entry
from kit.formats.masks.masks import IGNORED, UNKNOWN
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.files import open_image


class MaskContent(NamedTuple):
    """The content of a mask file.

    values: numbers [h w], or colours uint8 [h w 3].
    one_bit: whether a pixel has one bit, so that a 1 may be the id 1 or white.
    jpeg: whether the file is a JPEG, which changes values.
    """

    values: np.ndarray
    one_bit: bool
    jpeg: bool


@dataclass(frozen=True)
class MaskImages:
    """Read mask files by a table of pixel values. Values that are not in the table have no class.

    numbers: `(pixel value, class number)` of index, palette and grey masks; the class number is 255 for ignored values.
    colours: `(red << 16 | green << 8 | blue, class number)`, sorted; None if no colours are known.
    """

    numbers: tuple[tuple[int, int], ...]
    colours: tuple[tuple[int, int], ...] | None = None

    def read(self, target: Path) -> np.ndarray:
        content = read_content(target)
        mask = self.classes(content)
        if (mask == UNKNOWN).any():
            raise UserError(f"{target}: {self.describe_unknown(content, mask)}")
        return mask

    def read_known(self, target: Path) -> np.ndarray:
        return self.classes(read_content(target))

    def files(self, targets: Sequence[Path]) -> list[Path]:
        return list(targets)

    def classes(self, content: MaskContent) -> np.ndarray:
        """Return class numbers, uint8 [h w]."""
        values = content.values
        if values.ndim == 3 and self.colours is not None:
            colours, numbers = np.array(self.colours).T
            packed = _packed(values)
            index = np.searchsorted(colours, packed).clip(max=len(colours) - 1)
            return np.where(colours[index] == packed, numbers[index], UNKNOWN).astype(np.uint8)
        if values.ndim == 3:
            if not is_grey(values):
                return np.full(values.shape[:2], UNKNOWN, np.uint8)
            values = values[..., 0]
        if content.one_bit:
            values = values.astype(np.int32) * self._white
        if values.dtype == np.uint8:
            return self._table[values]
        outside = (values < 0) | (values > HIGHEST_ID)
        return np.where(outside, UNKNOWN, self._table[np.where(outside, 0, values)]).astype(np.uint8)

    @cached_property
    def _table(self) -> np.ndarray:
        """The class number of each value, uint8 [65536]."""
        table = np.full(HIGHEST_ID + 1, UNKNOWN, np.uint8)
        for value, number in self.numbers:
            table[value] = number
        return table

    @property
    def _white(self) -> int:
        """The pixel value that a 1 stands for in an image of one bit: white if white is a class, else 1."""
        return next((white for white in (IGNORED, HIGHEST_ID) if self._table[white] < UNKNOWN), 1)

    def describe_unknown(self, content: MaskContent, mask: np.ndarray, most: int = 5) -> str:
        """Return a message that names the values of no class, at most `most` of them, and says what to do."""
        unknown = content.values[mask == UNKNOWN]
        if unknown.ndim == 2 and (self.colours is not None or not is_grey(content.values)):
            values = np.unique(_packed(unknown))
            words = [f"({c >> 16} {c >> 8 & 255} {c & 255})" for c in values[:most].tolist()]
            what, remedy = "colour", "give each class's colour with --data.colors"
        else:
            values = np.unique(unknown[..., 0] if unknown.ndim == 2 else unknown)
            words = [str(value) for value in values[:most].tolist()]
            what, remedy = "id", "give --data.class_names or --data.ids, or add them to --data.ignore"
        several = "s" if len(values) > 1 else ""
        more = f" and {len(values) - most} more" if len(values) > most else ""
        lossy = "; JPEG changes values, save masks as PNG" if content.jpeg else ""
        return f"{what}{several} {', '.join(words)}{more} of no class; {remedy}{lossy}"


def make_reader(numbers: Mapping[Entry, int], ignored: Iterable[int]) -> MaskImages:
    """Return the reader for a class table.

    Args:
        numbers: the class number of each entry; 255 for ignored entries.
        ignored: pixel values to ignore, which need not be in the table. 255 is ignored too, unless an entry has it.
    """
    ids = {IGNORED: IGNORED, **{entry.id: number for entry, number in numbers.items()}}
    ids |= dict.fromkeys(ignored, IGNORED)
    colours = {entry.colour: number for entry, number in numbers.items() if entry.colour is not None}
    packed = {red << 16 | green << 8 | blue: number for (red, green, blue), number in colours.items()}
    return MaskImages(tuple(sorted(ids.items())), tuple(sorted(packed.items())) or None)


def read_content(path: Path) -> MaskContent:
    """Return the content of a mask file without converting it. Palette images give their indices.

    Raises:
        BrokenFiles: the file cannot be read, or has numbers that are not whole.
    """
    with broken_file_errors(path), open_image(path) as image:
        jpeg, one_bit = image.format in ("JPEG", "MPO"), image.mode == "1"
        image = upright(image)
        if image.mode in ("P", "PA", "L", "LA", "1"):
            values = np.asarray(image).astype(np.uint8)
            values = values[..., 0] if values.ndim == 3 else values
        elif image.mode.startswith("I"):
            values = np.asarray(image).astype(np.int32)
        elif image.mode == "F":
            values = _whole_numbers(np.asarray(image), path)
        else:
            values = np.asarray(image.convert("RGB"))
        return MaskContent(values, one_bit, jpeg)


def _whole_numbers(values: np.ndarray, path: Path) -> np.ndarray:
    """Convert float32 to int32.

    Raises:
        BrokenFiles: a value is not a whole number.
    """
    broken = values[~(np.abs(values) < 2**31) | (values != np.rint(values))]
    if len(broken):
        raise BrokenFiles(f"{path}: a mask that holds {broken[0]:g}, but ids are whole numbers")
    return values.astype(np.int32)


def _packed(colours: np.ndarray) -> np.ndarray:
    """Pack colours uint8 [... 3] into int32 [...]: red << 16 | green << 8 | blue."""
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def is_grey(colours: np.ndarray) -> bool:
    """Return whether red, green and blue are equal in all pixels, [... 3]."""
    return bool((colours == colours[..., :1]).all())
