"""Decide which pixel value of mask files is which class, once for a whole data set, from all of its masks."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kit.formats.masks.class_tables import HIGHEST_ID, Entry
from kit.formats.masks.mask_images import MaskContent, is_grey, read_content
from kit.formats.masks.masks import IGNORED
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.threads import map_in_threads

WHITES = (IGNORED, HIGHEST_ID)  # white in images of 8 bits, and of 16
LISTED = 8  # the number of values that an error message names


@dataclass
class PixelValues:
    """The pixel values in a data set's mask files.

    first_files: the first file with each value. Files of one bit count only if there are no others, since a 1 in them
        may be an id or white.
    black_and_white: the first file with the values 0 and 255 and no others.
    with_id: the first file with an id from 1 to 254.
    has_void: whether a file has such an id and 255, so that 255 is not the white of black and white masks.
    coloured, jpeg: the first file of each kind.
    broken: the error of the first file that cannot be read.
    """

    first_files: dict[int, Path] = field(default_factory=dict)
    black_and_white: Path | None = None
    with_id: Path | None = None
    has_void: bool = False
    coloured: Path | None = None
    jpeg: Path | None = None
    broken: BrokenFiles | None = None


def read_pixel_values(masks: Sequence[Path]) -> PixelValues:
    """Read the values in all masks. Coloured masks, and those that cannot be read, add no values."""
    result, one_bit_masks = PixelValues(), PixelValues()
    for mask, content in zip(masks, map_in_threads(_values_in, masks), strict=True):
        if isinstance(content, BrokenFiles):
            result.broken = result.broken or content
            continue
        values, kind = content
        if kind.jpeg:
            result.jpeg = result.jpeg or mask
        if values is None:
            result.coloured = result.coloured or mask
            continue
        for value in values:
            (one_bit_masks if kind.one_bit else result).first_files.setdefault(value, mask)
        if not kind.one_bit:
            has_id = any(0 < value < IGNORED for value in values)
            result.with_id = result.with_id or (mask if has_id else None)
            result.black_and_white = result.black_and_white or (mask if values == {0, IGNORED} else None)
            result.has_void = result.has_void or (has_id and IGNORED in values)
    result.first_files = result.first_files or one_bit_masks.first_files
    return result


def decide_entries(
    named: Sequence[Entry] | None, read: Callable[[], PixelValues], ignored: Collection[int], root: Path
) -> list[Entry]:
    """Return which pixel value stands for which class.

    If all masks have only 0 and 255, they are black and white: classes 0 and 1. Otherwise 255 is ignored. If all
    colours of a table are greys, the masks may contain these greys or the ids; whichever occurs more often is used.

    Args:
        named: the classes that a table or the user names, whose ids are their indices; None if nothing names them.
        read: reads the masks; called only if their values decide.
        ignored: the values that the user ignores.
        root: the data set's folder, for messages.

    Raises:
        UserError: the values are ambiguous. The message asks for `--data.ids`.
    """
    greys = [entry.colour[0] for entry in named or () if entry.colour and len(set(entry.colour)) == 1]
    only_greys = named is not None and len(greys) == len(named)
    if named is not None and len(named) != 2 and not only_greys:
        return list(named)
    pixel_values = read()
    values = set(pixel_values.first_files) - set(ignored)
    if named is not None and only_greys and len(values & set(greys)) > len(values & {entry.id for entry in named}):
        return [entry._replace(id=grey) for entry, grey in zip(named, greys, strict=True)]
    if named is not None and len(named) != 2:
        return list(named)
    for white in WHITES:
        if values == {0, white}:
            black_and_white = named or (Entry(0, "background", None), Entry(1, "foreground", None))
            return [entry._replace(id=id) for entry, id in zip(black_and_white, (0, white), strict=True)]
    both_kinds = pixel_values.black_and_white and pixel_values.with_id and not pixel_values.has_void
    if both_kinds and IGNORED in values:
        raise UserError(
            f"{root}: {pixel_values.black_and_white} holds 0 and 255 alone, as if 255 were a class, and "
            f"{pixel_values.with_id} holds smaller ids, as if 255 were ignored; write all masks alike, or ignore 255 "
            "with --data.ids '[0, 1]', or make it a class with --data.ids '[0, 1, 255]' "
            "--data.class_names '[background, foreground, foreground]'"
        )
    if values == {IGNORED}:
        raise UserError(f"{root}: the masks hold nothing but 255, which is ignored; if it is a class, give --data.ids")
    return list(named) if named is not None else _numbered(pixel_values, values - {IGNORED}, root)


def _numbered(pixel_values: PixelValues, ids: set[int], root: Path) -> list[Entry]:
    """Name the classes by their ids, from 0 to the highest.

    Raises:
        UserError: there are no ids, or more than half of the ids up to the highest are missing, as with greys.
    """
    if not ids:
        if pixel_values.broken and not pixel_values.coloured:
            raise pixel_values.broken
        remedy = f"give each class's colour with --data.colors, or in {root}/classes.txt as NAME R G B"
        raise UserError(f"{root}: the masks are coloured, and nothing says which colour is which class; {remedy}")
    if min(ids) < 0 or 2 * len(ids) < max(ids) + 1:
        values = sorted(pixel_values.first_files)
        listed = ", ".join(map(str, values[:LISTED])) + (", ..." if len(values) > LISTED else "")
        odd = next((value for value in values if value not in (0, 1, IGNORED)), values[-1])
        jpeg = pixel_values.jpeg
        lossy = f"; {jpeg} is a JPEG, which changes values: save masks as PNG" if jpeg else ""
        raise UserError(
            f"{root}: the masks hold the values {listed} ({odd} in {pixel_values.first_files[odd]}), and nothing names "
            f"the classes; list the values that are classes with --data.ids '[{listed}]' (255 is ignored unless it is "
            f"listed), and name them with --data.class_names{lossy}"
        )
    return [Entry(id, str(id), None) for id in range(max(ids) + 1)]


def _values_in(mask: Path) -> tuple[set[int] | None, MaskContent] | BrokenFiles:
    """Return a mask's values (None if it is coloured) and its content without pixels, or the error of reading it."""
    try:
        content = read_content(mask)
    except BrokenFiles as error:
        return error
    kind = content._replace(values=np.empty(0))
    plane = content.values
    if plane.ndim == 3:
        if not is_grey(plane):
            return None, kind
        plane = plane[..., 0]
    if plane.dtype == np.uint8:
        return set(np.flatnonzero(np.bincount(plane.ravel(), minlength=256)).tolist()), kind
    return set(np.unique(plane).tolist()), kind
