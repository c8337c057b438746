"""Read mask files: map their pixel values or colours to class numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kit.data.decode import JPEGS, broken_file_errors, turn_upright
from kit.formats.masks.masks import UNKNOWN
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.files import open_image

MAX_LISTED = 8  # the largest number of values in an error message
PACKING = np.array([1 << 16, 1 << 8, 1])  # the product colour @ PACKING is red, green and blue in one number


@dataclass(frozen=True)
class MaskImages:
    """Read mask files, given the class number of each pixel value. Other values belong to no class.

    See `kit.formats.masks.masks.Reader` for the methods that all readers have.

    numbers: `(pixel value, class number)` for grey and palette images, sorted. Ignored values have class number 255.
    colours: `(colour @ PACKING, class number)` for colour images, sorted; empty if no colours are known.
    """

    numbers: tuple[tuple[int, int], ...]
    colours: tuple[tuple[int, int], ...] = ()

    def read(self, target: Path) -> np.ndarray:
        values = self.values(target)
        mask = self.classes(values)
        if (mask == UNKNOWN).any():
            raise UserError(f"{target}: {self.describe_unknown(values, mask)}")
        return mask

    def read_known(self, target: Path) -> np.ndarray:
        return self.classes(self.values(target))

    def files(self, targets: Sequence[Path]) -> list[Path]:
        return list(targets)

    def values(self, mask: Path) -> np.ndarray:
        """Return the result of `read_values`, or one channel [h w] of a grey RGB image if no colours are known.

        Raises:
            BrokenFiles: see `read_values`.
        """
        values = read_values(mask)
        return values[..., 0] if values.ndim == 3 and not self.colours and is_grey(values) else values

    def classes(self, values: np.ndarray) -> np.ndarray:
        """Return class numbers, uint8 [h w], for the result of `values`; `UNKNOWN` for values of no class."""
        if values.ndim == 3:
            return _look_up(values @ PACKING, self.colours)
        if values.dtype == np.uint8:
            return _look_up(np.arange(256), self.numbers)[values]
        return _look_up(values, self.numbers)

    def describe_unknown(self, values: np.ndarray, mask: np.ndarray) -> str:
        """Return a message with at most `MAX_LISTED` of the values that belong to no class, and a remedy.

        Args:
            values: the result of `values`.
            mask: the result of `classes` for these values.
        """
        unknown = np.unique(values[mask == UNKNOWN], axis=0).tolist()
        if values.ndim == 3:
            words = [f"({red} {green} {blue})" for red, green, blue in unknown]
            noun, remedy = "colour", "give each class's colour with --data.colors"
        else:
            words = [str(value) for value in unknown]
            noun, remedy = "id", "give --data.class_names or --data.ids, or add them to --data.ignore"
        listed = ", ".join(words[:MAX_LISTED]) + ", ..." * (len(words) > MAX_LISTED)
        return f"{noun}{'s' * (len(words) > 1)} {listed} of no class; {remedy}"


def _look_up(values: np.ndarray, table: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the class number of each value, uint8, from a sorted table of (value, class number).

    Values that are not in the table get `UNKNOWN`.
    """
    keys, numbers = np.array(table or [(-1, UNKNOWN)]).T
    index = np.searchsorted(keys, values).clip(max=len(keys) - 1)
    return np.where(keys[index] == values, numbers[index], UNKNOWN).astype(np.uint8)


def read_values(path: Path) -> np.ndarray:
    """Return the pixel values [h w] or the colours, uint8 [h w 3], of a mask file.

    The result has the palette's indices for a palette image, and 0 and 1 for a one-bit image. It is turned upright by
    the EXIF orientation of the mask file itself.

    Raises:
        BrokenFiles: the file cannot be read, is a JPEG, or has floating-point numbers.
    """
    with broken_file_errors(path), open_image(path) as image:
        if image.format in JPEGS:
            raise BrokenFiles(f"{path}: a JPEG, which changes the ids near edges; save masks as PNG")
        image = turn_upright(image)
        if image.mode in ("P", "PA", "L", "LA", "1"):
            values = np.asarray(image).astype(np.uint8)
            return values[..., 0] if values.ndim == 3 else values
        if image.mode == "F":
            raise BrokenFiles(f"{path}: a mask of floating-point numbers; save ids as whole numbers")
        return np.asarray(image).astype(np.int32) if image.mode[0] == "I" else np.asarray(image.convert("RGB"))


def is_grey(colours: np.ndarray) -> bool:
    """Return whether red, green and blue are equal in all pixels, [... 3]."""
    return bool((colours == colours[..., :1]).all())
