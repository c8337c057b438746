"""What the pixel values of mask files mean: decided once for a whole data set, from all of its masks."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from project import BrokenFiles, UserError
from project.pipeline.threads import in_threads
from project.segmentation.mask_images import Values, is_grey, values_of
from project.segmentation.masks import IGNORED
from project.segmentation.tables import HIGHEST_ID, Entry

WHITE = (IGNORED, HIGHEST_ID)  # of images of 8 and of 16 bits
LISTED = 8  # values that an error message names


@dataclass
class Seen:
    """The pixel values of a data set's mask files.

    files: the first file that holds each value. Images of one bit count only if there are no others, as their 1 is
        either an id or white.
    white: the first file that holds 0 and 255 and nothing else.
    index: the first file that holds an id from 1 to 254.
    void: whether some file holds such an id and 255, which shows that 255 is not the white of black and white masks.
    coloured, jpeg: the first file of each kind.
    broken: what is wrong with the first file that cannot be read.
    """

    files: dict[int, Path] = field(default_factory=dict)
    white: Path | None = None
    index: Path | None = None
    void: bool = False
    coloured: Path | None = None
    jpeg: Path | None = None
    broken: BrokenFiles | None = None


def look_at(masks: Sequence[Path]) -> Seen:
    """Read all masks. Coloured ones and those that cannot be read add no values."""
    seen, of_one_bit = Seen(), Seen()
    for mask, found in zip(masks, in_threads(_values_in, masks), strict=True):
        if isinstance(found, BrokenFiles):
            seen.broken = seen.broken or found
            continue
        values, kind = found
        if kind.jpeg:
            seen.jpeg = seen.jpeg or mask
        if values is None:
            seen.coloured = seen.coloured or mask
            continue
        for value in values:
            (of_one_bit if kind.one_bit else seen).files.setdefault(value, mask)
        if not kind.one_bit:
            has_id = any(0 < value < IGNORED for value in values)
            seen.index = seen.index or (mask if has_id else None)
            seen.white = seen.white or (mask if values == {0, IGNORED} else None)
            seen.void = seen.void or (has_id and IGNORED in values)
    seen.files = seen.files or of_one_bit.files
    return seen


def entries_of(
    named: Sequence[Entry] | None, look: Callable[[], Seen], ignored: Collection[int], root: Path
) -> list[Entry]:
    """Return which pixel value stands for which class.

    Masks that hold 0 and 255 alone are black and white, whatever their mode: classes 0 and 1. Otherwise 255 is ignored.
    Where a table's colours are greys, the masks hold those greys or ids: the ones of which they hold more.

    Args:
        named: the classes as a table or the user names them, whose ids are places in a list; None where nothing does.
        look: reads the masks; called only where their values decide.
        ignored: values that the user wants ignored.
        root: the data set's folder, for messages.

    Raises:
        UserError: the values can be understood in more than one way; the message asks for `--data.ids`.
    """
    greys = [entry.colour[0] for entry in named or () if entry.colour and len(set(entry.colour)) == 1]
    only_greys = named is not None and len(greys) == len(named)
    if named is not None and len(named) != 2 and not only_greys:
        return list(named)
    seen = look()
    values = set(seen.files) - set(ignored)
    if named is not None and only_greys and len(values & set(greys)) > len(values & {entry.id for entry in named}):
        return [entry._replace(id=grey) for entry, grey in zip(named, greys, strict=True)]
    if named is not None and len(named) != 2:
        return list(named)
    for white in WHITE:
        if values == {0, white}:
            black_and_white = named or (Entry(0, "background", None), Entry(1, "foreground", None))
            return [entry._replace(id=id) for entry, id in zip(black_and_white, (0, white), strict=True)]
    if seen.white and seen.index and not seen.void and IGNORED in values:
        raise UserError(
            f"{root}: {seen.white} holds 0 and 255 alone, so that 255 would be a class, and {seen.index} holds smaller "
            "ids; write all masks alike, or say what is a class with --data.ids '[0, 1]', which ignores 255, or with "
            "--data.ids '[0, 1, 255]' --data.class_names '[background, foreground, foreground]'"
        )
    if values == {IGNORED}:
        raise UserError(f"{root}: the masks hold nothing but 255, which is ignored; if it is a class, give --data.ids")
    return list(named) if named is not None else _numbered(seen, values - {IGNORED}, root)


def _numbered(seen: Seen, ids: set[int], root: Path) -> list[Entry]:
    """Name the classes by their ids, 0 to the highest.

    Raises:
        UserError: there are no ids, or so few in their range that they are rather greys.
    """
    if not ids:
        if seen.broken and not seen.coloured:
            raise seen.broken
        remedy = f"give each class's with --data.colors, or in {root}/classes.txt as NAME R G B"
        raise UserError(f"{root}: the masks hold colours that no class is known of; {remedy}")
    if min(ids) < 0 or 2 * len(ids) < max(ids) + 1:
        values = sorted(seen.files)
        listed = ", ".join(map(str, values[:LISTED])) + (", ..." if len(values) > LISTED else "")
        odd = next((value for value in values if value not in (0, 1, IGNORED)), values[-1])
        lossy = f"; {seen.jpeg} is a JPEG, which changes values: save masks as PNG" if seen.jpeg else ""
        raise UserError(
            f"{root}: the masks hold the values {listed} ({odd} in {seen.files[odd]}), and nothing names the classes; "
            f"give the values of the classes in their order, --data.ids '[{listed}]', and their names with "
            f"--data.class_names; without 255 among them, it is ignored{lossy}"
        )
    return [Entry(id, str(id), None) for id in range(max(ids) + 1)]


def _values_in(mask: Path) -> tuple[set[int] | None, Values] | BrokenFiles:
    """The values of a mask that is not coloured, and what kind of file it is (without its pixels)."""
    try:
        found = values_of(mask)
    except BrokenFiles as error:
        return error
    kind = found._replace(values=np.empty(0))
    plane = found.values
    if plane.ndim == 3:
        if not is_grey(plane):
            return None, kind
        plane = plane[..., 0]
    if plane.dtype == np.uint8:
        return set(np.flatnonzero(np.bincount(plane.ravel(), minlength=256)).tolist()), kind
    return set(np.unique(plane).tolist()), kind
