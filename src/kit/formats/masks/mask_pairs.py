"""Read the masks of a data set of mask files, and list the faults in them."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kit.formats.masks.class_list import ClassList, reader_of_all_ids
from kit.formats.masks.classes import Entry
from kit.formats.masks.faults import pair_faults
from kit.formats.masks.recognition import MaskFormat, MaskSplit
from kit.formats.pairs import MASKS, Pairs, why_unpaired
from kit.ground.errors import UserError
from kit.ground.faults import Fault


class MaskPairs(MaskFormat):
    """A data set of mask files.

    Args:
        root: the folder of the data set.
        pairs: the images and masks of each split.
        class_list: the classes and their pixel values.
    """

    def __init__(self, root: Path, pairs: Mapping[str, Pairs], class_list: ClassList) -> None:
        self.root, self.pairs, self.class_list = root, pairs, class_list

    def class_names(self) -> list[str]:
        return self.class_list.class_names()

    def example_images(self) -> list[Path]:
        return next(pairs.images for pairs in self.pairs.values() if pairs.images)

    def read(self, split: str, class_names: Sequence[str]) -> MaskSplit | None:
        """Return the images of a split and their masks. A test split without any masks is left out, with a warning.

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
        if not pairs.images:
            return None
        reader = self.class_list.reader(class_names)
        return MaskSplit(pairs.images, pairs.files, reader, reader.describe_format(pairs.files[0]))

    def _is_unlabelled(self, split: str) -> bool:
        """Return whether a split is a test set whose images all lack masks, as is common."""
        return split == "test" and not self.pairs[split].images and not self.pairs[split].lone_files

    def pixel_values(self) -> list[tuple[Any, ...]]:
        return [tuple(entry) for entry in self.class_list.entries]  # id, name and colour of each class

    def use_pixel_values(self, values: Iterable[Sequence[Any]]) -> None:
        self.class_list.entries_of_checkpoint = [Entry(*value) for value in values] or None

    def faults(self, class_names: Callable[[], Sequence[str]]) -> Iterator[Fault]:
        try:
            reader = self.class_list.reader(class_names())
        except UserError:  # the classes are unknown
            reader = reader_of_all_ids()
        for split, pairs in self.pairs.items():
            yield from pair_faults(pairs, reader, "warning" if self._is_unlabelled(split) else "error")
