"""Read the masks of a data set from COCO's JSON files, one for each split, and list the classes and the faults."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kit.formats.coco import Crowds, Document, list_crowds, only_crowds_message
from kit.formats.coco_search import find
from kit.formats.masks import coco, faults
from kit.formats.masks.class_list import class_number
from kit.formats.masks.recognition import MaskFormat, MaskSplit
from kit.formats.text import unreadable_fault
from kit.ground.errors import UserError
from kit.ground.faults import Fault

BACKGROUND = "background"  # class 0: all pixels without an annotation


class CocoFiles(MaskFormat):
    """A data set in COCO's format.

    Args:
        root: the folder of the data set.
        files: the file that the user gave for each split, relative to `root`, or None. See `coco_search.find`.
        images_folder: the folder of the images, relative to `root`; None to find it.
        crowds: how to use annotations with `iscrowd` 1.

    Attributes:
        files: the JSON file of each split.
    """

    def __init__(self, root: Path, files: dict[str, str | None], images_folder: str | None, crowds: Crowds) -> None:
        self.root, self.images_folder, self.crowds = root, images_folder, crowds
        self.files = find(root, files)
        self._documents: dict[str, Document] = {}

    def document(self, split: str) -> Document:
        """Return the content of a split's file, which is read only once."""
        if split not in self._documents:
            self._documents[split] = coco.read(self.files[split], self.root, self.images_folder)
        return self._documents[split]

    def main_document(self) -> Document:
        """Return the document that defines the classes: that of train, or the first one if there is no train."""
        return self.document("train" if "train" in self.files else next(iter(self.files)))

    def class_names(self) -> list[str]:
        """Return `background` and the names of all other categories, each once."""
        names = self.main_document().categories.values()
        return [BACKGROUND, *dict.fromkeys(name for name in names if name.lower() != BACKGROUND)]

    def reader(self, document: Document, class_names: Sequence[str]) -> coco.CocoShapes:
        """Return the object that draws annotations as masks. `class_names` are those of the data module."""
        background = class_number(BACKGROUND, class_names, self.root)
        numbers = [
            (id, background if name.lower() == BACKGROUND else class_number(name, class_names, self.root))
            for id, name in document.categories.items()
        ]
        return coco.CocoShapes(document.file, tuple(numbers), self.crowds, background)

    def example_images(self) -> list[Path]:
        return [image.path for image in self.main_document().images]

    def read(self, split: str, class_names: Sequence[str]) -> MaskSplit | None:
        if split not in self.files:
            return None
        document = self.usable_document(split)
        reader = self.reader(document, class_names)
        return MaskSplit([image.path for image in document.images], document.images, reader, "COCO")

    def usable_document(self, split: str) -> Document:
        """Return the document of a split. Warn of its faults and of its crowds.

        Raises:
            UserError: nothing can be drawn, a category is not listed, or all training objects of a class are crowds.
        """
        document = self.document(split)
        if not any(image.annotations for image in document.images):
            reason = f" ({document.faults[0].message})" if document.faults else ""
            raise UserError(f"{document.file}: nothing in it can be drawn as a mask{reason}")
        for kind, count in Counter(fault.kind for fault in document.faults).items():
            first = next(fault for fault in document.faults if fault.kind == kind)
            if kind == "mask-id-unknown":
                raise UserError(f"{document.file}: {first.message}")
            warnings.warn(f"{document.file}: {kind} ({count:,}), for example: {first.message}", stacklevel=1)
        if self.crowds == "ignore" and (crowds := coco.crowds(document)):
            only_crowds = [name for name, (count, total) in crowds.items() if count == total]
            if split == "train" and only_crowds:
                raise UserError(f"{document.file}: {only_crowds_message(only_crowds)}")
            counted = list_crowds(crowds)
            warnings.warn(f"{document.file}: crowds are neither trained on nor measured: {counted}", stacklevel=1)
        return document

    def faults(self, class_names: Callable[[], Sequence[str]]) -> Iterator[Fault]:
        for split, file in self.files.items():
            try:
                document = self.document(split)
                reader = self.reader(document, class_names())
            except UserError as error:
                yield unreadable_fault(file, error)
                continue
            yield from faults.document_faults(document, reader)
        yield from faults.unlisted_image_faults(self._documents.values())
