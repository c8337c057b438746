"""Read a data set of mask files.

Its classes come from arguments, a class table, a checkpoint or the values in the masks. Only the classes that are not
ignored have a class number: their index in the class names of the data module.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from kit.formats.masks import classes
from kit.formats.masks.classes import HIGHEST_ID, VOID_NAMES, Entry, class_number
from kit.formats.masks.data_sets import MaskFormat, MaskSplit
from kit.formats.masks.faults import mask_faults
from kit.formats.masks.mask_images import PACKING, MaskImages
from kit.formats.masks.masks import IGNORED, MAX_CLASSES
from kit.formats.pairs import MASKS, Pairs, why_unpaired
from kit.formats.paths import first_file
from kit.ground.errors import UserError
from kit.ground.faults import Fault, Severity, fault


class MaskPairs(MaskFormat):
    """A data set of mask files.

    Args:
        root: the folder of the data set.
        pairs: the images and masks of each split.
        names: the names for the ids 0, 1, 2, ..., or for `ids`. Ids with the same name become one class.
        ids: the id of each class: its pixel value in the masks, or its position in `colors`.
        colors: red, green and blue of each class by name, for coloured masks.
        ignore: the ids to ignore; by default, the ids of classes with one of `VOID_NAMES`.

    Raises:
        UserError: an id is too large, negative, or listed twice.
    """

    def __init__(
        self,
        root: Path,
        pairs: Mapping[str, Pairs],
        names: Sequence[str] | None,
        ids: Sequence[int] | None,
        colors: Mapping[str, Sequence[int]] | None,
        ignore: Sequence[int] | None,
    ) -> None:
        for option, values in (("ids", ids), ("ignore", ignore)):
            if any(not 0 <= id <= HIGHEST_ID for id in values or ()):
                raise UserError(f"data.{option} is {values}, but an id is from 0 to {HIGHEST_ID}")
        if len(set(ids or ())) < len(ids or ()):
            raise UserError(f"data.ids is {ids}, but each id may be listed only once")
        self.root, self.pairs = root, pairs
        self.names, self.ids, self.colors, self.ignore = names, ids, colors, ignore
        self.entries_of_checkpoint: list[Entry] = []

    @cached_property
    def entries(self) -> list[Entry]:
        """The id, name and colour of each class, including ignored classes.

        They come from a checkpoint, unless `ids` is given, or other arguments or a class table name other classes.
        """
        named = self._named_entries()
        if self.ids is not None:
            if named is not None and len(named) != len(self.ids):
                raise UserError(f"data.ids has {len(self.ids)} ids, but there are {len(named)} class names")
            named = named or [Entry(id, str(id), None) for id in self.ids]
            return [entry._replace(id=id) for entry, id in zip(named, self.ids, strict=True)]
        entries = self.entries_of_checkpoint
        if entries and (named is None or [entry[1:] for entry in named] == [entry[1:] for entry in entries]):
            return entries  # the names and colours are the same; the ids may differ
        masks = [mask for pairs in self.pairs.values() for mask in pairs.files]
        return classes.infer_entries(named, masks, self.ignore or (), self.root)

    def _named_entries(self) -> list[Entry] | None:
        """Return the entries that the arguments or a class table name, or None if neither names any."""
        if self.colors is not None:
            for name, color in self.colors.items():
                if len(color) != 3 or not all(0 <= value <= 255 for value in color):
                    raise UserError(f"data.colors: '{name}' is {list(color)}, but must be three numbers from 0 to 255")
            return [Entry(id, name.strip(), tuple(color)) for id, (name, color) in enumerate(self.colors.items())]
        if self.names is not None:
            return [Entry(id, name.strip(), None) for id, name in enumerate(self.names)]
        folders = [path.parent for pairs in self.pairs.values() for path in (*pairs.files[:1], *pairs.images[:1])]
        table = first_file([self.root, *dict.fromkeys(folders)], classes.TABLE_NAMES)
        return classes.read_table(table) if table else None

    def class_names(self) -> list[str]:
        """Return the names of the classes that are not ignored, each once.

        Raises:
            UserError: there are fewer than two names, or more than `MAX_CLASSES`.
        """
        names = list(dict.fromkeys(entry.name for entry in self.entries if not self._is_ignored(entry)))
        if len(names) < 2:
            listed = ", ".join(entry.name for entry in self.entries)
            problem = f"fewer than two classes ({listed}); ignored classes do not count, and equal names count once"
            raise UserError(f"{self.root}: {problem}; give --data.class_names or --data.ignore '[]'")
        if len(names) > MAX_CLASSES:
            problem = f"{len(names)} classes, but at most {MAX_CLASSES} are allowed"
            raise UserError(f"{self.root}: {problem}; are these instance ids?")
        return names

    def _is_ignored(self, entry: Entry) -> bool:
        return entry.name.lower() in VOID_NAMES if self.ignore is None else entry.id in self.ignore

    def example_images(self) -> list[Path]:
        return next(pairs.images for pairs in self.pairs.values() if pairs.images)

    def reader(self, class_names: Sequence[str]) -> MaskImages:
        """Return the reader of the mask files. 255 is ignored if it is not the id of a class.

        A colour of several classes does not count: coloured masks with it are refused.

        Args:
            class_names: the class names of the data module.
        """
        ids, colours, shared_colours = {IGNORED: IGNORED}, dict[int, int](), set[int]()
        for entry in self.entries:
            is_ignored = self._is_ignored(entry)
            ids[entry.id] = IGNORED if is_ignored else class_number(entry.name, class_names, self.root)
            if entry.colour is not None:
                colour = int(PACKING @ entry.colour)
                if colours.setdefault(colour, ids[entry.id]) != ids[entry.id]:
                    shared_colours.add(colour)
        ids |= dict.fromkeys(self.ignore or (), IGNORED)
        class_of_colour = sorted(item for item in colours.items() if item[0] not in shared_colours)
        return MaskImages(tuple(sorted(ids.items())), tuple(class_of_colour))

    def read(self, split: str, class_names: Sequence[str]) -> MaskSplit | None:
        """Return the images of a split and their masks. Images without a mask are left out, with a warning.

        The result is None if there is no such split, or for a test split without any masks.

        Raises:
            UserError: the split is not an unlabelled test set, but none of its images has a mask.
        """
        pairs = self.pairs.get(split)
        if pairs is None:
            return None
        if not pairs.images and not self._is_unlabelled(split):
            raise UserError(f"{split} of {self.root}: {why_unpaired(pairs, MASKS)}; repair or remove it")
        if pairs.lone_images:
            count, first = len(pairs.lone_images), pairs.lone_images[0]
            warnings.warn(f"{count} image(s) of {split} without a mask are left out, such as {first}", stacklevel=1)
        return MaskSplit(pairs.images, pairs.files, self.reader(class_names)) if pairs.images else None

    def _is_unlabelled(self, split: str) -> bool:
        """Return whether a split is a test set without masks, which is common."""
        return split == "test" and not self.pairs[split].images and not self.pairs[split].lone_files

    def pixel_values(self) -> list[tuple[Any, ...]]:
        return [tuple(entry) for entry in self.entries]  # id, name and colour of each class

    def use_pixel_values(self, values: Iterable[Sequence[Any]]) -> None:
        self.entries_of_checkpoint = [Entry(*value) for value in values]

    def faults(self, class_names: Callable[[], Sequence[str]]) -> Iterator[Fault]:
        try:
            reader = self.reader(class_names())
        except UserError:  # the classes are unknown, so no id is a fault
            reader = MaskImages(tuple((id, IGNORED if id == IGNORED else 0) for id in range(HIGHEST_ID + 1)))
        for split, pairs in self.pairs.items():
            severity: Severity = "warning" if self._is_unlabelled(split) else "error"
            for image in pairs.lone_images:
                yield fault("mask-missing", image, "an image without a mask; add one, or remove it", severity=severity)
            for mask in pairs.lone_files:
                yield fault("image-missing", mask, "a mask without an image; add one, or remove it", severity="warning")
            yield from mask_faults(reader, zip(pairs.images, pairs.files, pairs.files, strict=True))
