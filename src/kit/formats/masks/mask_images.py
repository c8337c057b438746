"""Read mask files: map their pixel values or colours to class numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kit.data.decode import JPEGS, broken_file_errors, turn_upright
from kit.formats.masks.masks import UNKNOWN, Problem, Reader
from kit.ground.errors import BrokenFiles
from kit.ground.files import open_image

MAX_LISTED = 8  # the largest number of values in an error message
PACKING = np.array([1 << 16, 1 << 8, 1])  # the product colour @ PACKING is red, green and blue in one number


@dataclass(frozen=True)
class MaskImages(Reader):
    """Read mask files, given the class number of each pixel value. Other values belong to no class.

    numbers: `(pixel value, class number)` for grey and palette images, sorted. Ignored values have class number 255.
    colours: `(colour @ PACKING, class number)` for colour images, sorted; empty if no colours are known.
    """

    numbers: tuple[tuple[int, int], ...]
    colours: tuple[tuple[int, int], ...] = ()

    def read_with_problems(self, target: Path) -> tuple[np.ndarray, list[Problem]]:
        values, palette = _read(target)
        if values.ndim == 3 and not self.colours and is_grey(values):
            values = values[..., 0]
        mask = self.classes(values)
        problems = [_unknown(values[mask == UNKNOWN])] if (mask == UNKNOWN).any() else []
        return mask, problems + self._palette_problems(values, palette)

    def _palette_problems(self, indices: np.ndarray, palette: np.ndarray | None) -> list[Problem]:
        """Return a problem if the palette's colours and its indices name different classes.

        Return none if a colour is unknown.
        """
        if palette is None or not self.colours:
            return []
        used = np.flatnonzero(np.bincount(indices.ravel()))
        if used[-1] >= len(palette):
            return []
        by_colour, by_index = _look_up(palette[used] @ PACKING, self.colours), self.classes(used)
        if (by_colour == UNKNOWN).any() or (by_colour == by_index).all():
            return []
        index = used[by_colour != by_index][0]
        problem = f"id {index} has the colour {palette[index].tolist()}, which is another class's"
        remedy = (
            "if the colours are right, save the mask in RGB; if the ids are right, list the classes without colours"
        )
        return [("mask-palette", "error", f"{problem}; {remedy}")]

    def files(self, targets: Sequence[Path]) -> list[Path]:
        return list(targets)

    def classes(self, values: np.ndarray) -> np.ndarray:
        """Return class numbers, uint8 [h w], for the result of `read_values`; `UNKNOWN` for values of no class."""
        if values.ndim == 3:
            return _look_up(values @ PACKING, self.colours)
        if values.dtype == np.uint8:
            return _look_up(np.arange(256), self.numbers)[values]
        return _look_up(values, self.numbers)


def _unknown(values: np.ndarray) -> Problem:
    """Return the problem of values that belong to no class, with at most `MAX_LISTED` of them and a remedy.

    Args:
        values: pixel values [n], or colours [n 3].
    """
    has_colours = values.ndim == 2
    # Colours are packed into one number each, since comparing rows is slow. The counts are not used. With
    # `return_counts`, numpy sorts and does not hash. Sorting is faster if most values differ.
    unique, _ = np.unique(values @ PACKING if has_colours else values, return_counts=True)
    listed = unique[:MAX_LISTED].tolist()
    kind, noun, remedy = "mask-id-unknown", "id", "give --data.class_names or --data.ids, or add them to --data.ignore"
    owner = "no class"
    if has_colours:
        listed = [[value >> 16, value >> 8 & 255, value & 255] for value in listed]
        kind, noun, remedy = "mask-colour-unknown", "colour", "give each class's colour with --data.colors"
        owner = "no class or of several"
    words = ", ".join(map(str, listed)) + ", ..." * (len(unique) > MAX_LISTED)
    return kind, "error", f"{noun}{'s' * (len(unique) > 1)} {words} of {owner}; {remedy}"


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
    return _read(path)[0]


def _read(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the result of `read_values`, and the colours of the palette, [n 3], or None if there is no palette."""
    with broken_file_errors(path), open_image(path) as image:
        if image.format in JPEGS:
            raise BrokenFiles(f"{path}: a JPEG, which changes the ids near edges; save masks as PNG")
        image = turn_upright(image)
        if image.mode in ("P", "PA", "L", "LA", "1"):
            values = np.asarray(image).astype(np.uint8)
            palette = image.getpalette() if image.mode in ("P", "PA") else None
            colours = None if palette is None else np.array(palette).reshape(-1, 3)
            return values[..., 0] if values.ndim == 3 else values, colours
        if image.mode == "F":
            raise BrokenFiles(f"{path}: a mask of floating-point numbers; save ids as whole numbers")
        values = np.asarray(image).astype(np.int32) if image.mode[0] == "I" else np.asarray(image.convert("RGB"))
        return values, None


def is_grey(colours: np.ndarray) -> bool:
    """Return whether red, green and blue are equal in all pixels. colours: [... 3]."""
    return bool((colours == colours[..., :1]).all())
