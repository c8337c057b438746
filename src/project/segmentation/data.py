"""Data modules of images with masks. A mask has the index of the class in `class_names`, or 255, for each pixel."""

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from kit.data import ImageDataModule, Samples, Tensors
from kit.data.decode import find_channels, validate_size
from kit.data.digits import digits, require_drawable
from kit.data.splitting import stratified_split
from kit.formats.coco import Crowds, Document, find, list_crowds, only_crowds_message
from kit.formats.folders import data_folder, groups_by_name
from kit.formats.masks import coco, faults
from kit.formats.masks.classes import (
    FILES,
    HIGHEST_ID,
    VOID_NAMES,
    Entry,
    infer_entries,
    make_reader,
    read_pixel_values,
    read_table,
)
from kit.formats.masks.mask_images import MaskImages
from kit.formats.masks.masks import (
    IGNORED,
    MAX_CLASSES,
    MaskFiles,
    collate_masks,
    count_pixels,
    hashable_target,
    image_and_mask,
    rarest_classes,
)
from kit.formats.pairs import MASKS, find_pairs, why_unpaired
from kit.formats.paths import first_file
from kit.formats.text import unreadable_fault
from kit.ground.errors import UserError, did_you_mean
from kit.ground.faults import Fault
from kit.masks.scenes import HEIGHT, WIDTH, make_scenes


class MaskDataModule(ImageDataModule):
    """The base class of data modules with masks."""

    sample, collate = staticmethod(image_and_mask), staticmethod(collate_masks)

    def count_classes(self, samples: Samples) -> list[int]:
        return count_pixels(samples, self.num_classes)

    def strata(self, samples: Samples) -> Tensor:
        return rarest_classes(samples, self.num_classes)


class MaskFolder(MaskDataModule):
    """Images and mask files, in separate folders or side by side. See `kit.formats.pairs` for the layouts.

    The names of the classes come from `class_names`, from `colors`, from a class table in `root` (see
    `classes.read_table`), or are their ids. If all files contain only 0 and 255, these are the classes 0 and 1.

    Args:
        root: the folder of the data set.
        images, masks: the names of the folders of images and masks, in `root` or in the folder of each split, if they
            are not found.
        image_size: the height and width; None keeps the size of each image. Training then needs an augmentation that
            crops to one size, and evaluation takes one image at a time.
        keep_aspect: fit images into `image_size` and pad them, instead of stretching them.
        class_names: a name for each id, from 0, or for each of `ids`. Ids with the same name are one class.
        ids: the pixel value of each class in the order of the classes, if it is not 0, 1, 2, ...: `[0, 128, 255]`.
        colors: red, green and blue of each class, by name, for coloured masks.
        ignore: pixel values that are left out of the loss and the metrics, as 255 is, unless it is a class. By default,
            the values of classes named void, unlabelled or ignore. The other values, in order, are the classes.
        group: a regular expression, as in `classification.ImageFolder`: images of the same group are never split.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    hashable_target = staticmethod(hashable_target)

    def __init__(
        self,
        root: str = "data",
        images: str | None = None,
        masks: str | None = None,
        image_size: tuple[int, int] | None = (256, 256),
        keep_aspect: bool = False,
        class_names: list[str] | None = None,
        ids: list[int] | None = None,
        colors: dict[str, list[int]] | None = None,
        ignore: list[int] | None = None,
        group: str | None = None,
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.group, self.channels, self.keep_aspect = data_folder(root), group, channels, keep_aspect
        self.image_size = validate_size(image_size, "data.image_size")
        self.names, self.ids, self.colors, self.ignore = class_names, ids, colors, ignore
        for option, given in (("ids", ids), ("ignore", ignore)):
            if any(not 0 <= id <= HIGHEST_ID for id in given or ()):
                raise UserError(f"data.{option} is {given}, but an id is from 0 to {HIGHEST_ID}")
        if len(set(ids or ())) < len(ids or ()):
            raise UserError(f"data.ids is {ids}, but each id may be listed only once")
        self.pairs = find_pairs(self.root, MASKS, images, masks)
        self._entries_of_checkpoint: list[Entry] | None = None

    @cached_property
    def entries(self) -> list[Entry]:
        """The name of each pixel value, including ignored ones, see `kit.formats.masks.classes`.

        The names of a checkpoint are used, unless the data name other classes.
        """
        named = self._named()
        if self.ids is not None:
            if named is not None and len(named) != len(self.ids):
                raise UserError(f"data.ids has {len(self.ids)} ids, but there are {len(named)} names of classes")
            named = named or [Entry(id, str(id), None) for id in self.ids]
            return [entry._replace(id=id) for entry, id in zip(named, self.ids, strict=True)]
        if self._entries_of_checkpoint is not None and (
            named is None or _without_ids(named) == _without_ids(self._entries_of_checkpoint)
        ):
            return self._entries_of_checkpoint
        masks = [mask for pairs in self.pairs.values() for mask in pairs.files]
        return infer_entries(named, lambda: read_pixel_values(masks), self.ignore or (), self.root)

    def _named(self) -> list[Entry] | None:
        """Return the classes that the user or a table names, with their ids, or None."""
        if self.colors is not None:
            return [Entry(id, name, _colour(name, colour)) for id, (name, colour) in enumerate(self.colors.items())]
        if self.names is not None:
            return [Entry(id, name, None) for id, name in enumerate(self.names)]
        first = [path.parent for pairs in self.pairs.values() for path in (*pairs.files[:1], *pairs.images[:1])]
        table = first_file([self.root, *dict.fromkeys(first)], FILES)
        return read_table(table) if table else None

    def find_class_names(self) -> list[str]:
        names = list(dict.fromkeys(entry.name for entry in self.entries if not self._is_ignored(entry)))
        if len(names) < 2:
            listed = ", ".join(entry.name for entry in self.entries)
            remedy = "give --data.class_names or --data.ignore '[]'"
            raise UserError(f"{self.root}: fewer than two classes are left of {listed}; {remedy}")
        if len(names) > MAX_CLASSES:
            raise UserError(f"{self.root}: {len(names)} classes, of at most {MAX_CLASSES}; are these ids of objects?")
        return names

    def _is_ignored(self, entry: Entry) -> bool:
        return entry.name.lower() in VOID_NAMES if self.ignore is None else entry.id in self.ignore

    def _number(self, entry: Entry) -> int:
        if self._is_ignored(entry):
            return IGNORED
        if entry.name not in self.class_names:
            raise UserError(f"the model has no class '{entry.name}'{did_you_mean(entry.name, self.class_names)}")
        return self.class_names.index(entry.name)

    @cached_property
    def reader(self) -> MaskImages:
        numbers = {entry: self._number(entry) for entry in self.entries}
        return make_reader(numbers, self.ignore or ())

    def find_in_channels(self) -> int:
        return self.channels or find_channels(next(pairs.images for pairs in self.pairs.values() if pairs.images))

    def load_split(self, split: str) -> Samples | None:
        pairs = self.pairs.get(split)
        if pairs is None:
            return None
        if not pairs.images and not self._is_unlabelled(split):
            raise UserError(f"{split} of {self.root}: {why_unpaired(pairs, MASKS)}; mend it, or take {split} away")
        if pairs.lone_images:
            number, first = len(pairs.lone_images), pairs.lone_images[0]
            warnings.warn(f"{number} image(s) of {split} without a mask are left out, as {first}", stacklevel=1)
        if not pairs.images:
            return None
        groups = groups_by_name(pairs.images, self.group)
        size, channels = self.image_size, self.in_channels
        return MaskFiles(pairs.files, pairs.images, channels, size, self.keep_aspect, reader=self.reader, groups=groups)

    def _is_unlabelled(self, split: str) -> bool:
        """Return whether a split is a test set without published masks."""
        return split == "test" and not self.pairs[split].images and not self.pairs[split].lone_files

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pixel_values": [tuple(entry) for entry in self.entries]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self._entries_of_checkpoint = [Entry(*entry) for entry in state["pixel_values"]]

    def annotation_faults(self) -> Iterable[Fault]:
        try:
            reader = self.reader
        except UserError:  # no class is known, which is reported for each mask
            reader = MaskImages(tuple((id, IGNORED if id == IGNORED else 0) for id in range(HIGHEST_ID + 1)))
        for split, pairs in self.pairs.items():
            yield from faults.pair_faults(pairs, reader, "warning" if self._is_unlabelled(split) else "error")


class CocoMasks(MaskDataModule):
    """Polygons and run lengths of COCO's JSON, in the layouts of `kit.formats.coco`. Class 0 is the background.

    Args:
        root: the folder of the data set.
        train, val, test: JSON files below `root`, if they are not found by their names.
        images: the folder below `root` that contains the images, if it is not found.
        crowds: `ignore` ignores the pixels of annotations with `iscrowd` 1; `objects` uses them like all others.
        image_size, keep_aspect, group, channels: as in `MaskFolder`.
    """

    hashable_target = staticmethod(hashable_target)

    def __init__(
        self,
        root: str = "data",
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        images: str | None = None,
        crowds: Crowds = "ignore",
        image_size: tuple[int, int] | None = (256, 256),
        keep_aspect: bool = False,
        group: str | None = None,
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.crowds = crowds
        self.root, self.images_in, self.group, self.channels = data_folder(root), images, group, channels
        self.image_size, self.keep_aspect = validate_size(image_size, "data.image_size"), keep_aspect
        self.files_of_splits = find(self.root, {"train": train, "val": val, "test": test})
        self._documents: dict[str, Document] = {}

    def document(self, split: str) -> Document:
        if split not in self._documents:
            self._documents[split] = coco.read(self.files_of_splits[split], self.root, self.images_in)
        return self._documents[split]

    @property
    def _main_document(self) -> Document:
        """The document that lists the classes: that of train, or the first one if there is no train."""
        files = self.files_of_splits
        return self.document("train" if "train" in files else next(iter(files)))

    def find_class_names(self) -> list[str]:
        categories = self._main_document.categories
        return ["background", *dict.fromkeys(n for n in categories.values() if n.lower() != "background")]

    def reader(self, document: Document) -> coco.CocoShapes:
        numbers = []
        for id, name in document.categories.items():
            if name not in self.class_names and name.lower() != "background":
                known = did_you_mean(name, self.class_names)
                raise UserError(f"{document.file}: the model has no class '{name}'{known}")
            numbers.append((id, self.class_names.index(name) if name in self.class_names else 0))
        return coco.CocoShapes(document.file, tuple(numbers), self.crowds)

    def find_in_channels(self) -> int:
        return self.channels or find_channels([image.path for image in self._main_document.images])

    def load_split(self, split: str) -> Samples | None:
        if split not in self.files_of_splits:
            return None
        document = self.document(split)
        if not any(image.annotations for image in document.images):
            why = f" ({document.faults[0].message})" if document.faults else ""
            raise UserError(f"{document.file}: nothing in it can be drawn as a mask{why}")
        for kind, count in Counter(fault.kind for fault in document.faults).items():
            first = next(fault for fault in document.faults if fault.kind == kind)
            if kind == "mask-id-unknown":
                raise UserError(f"{document.file}: {first.message}")
            warnings.warn(f"{document.file}: {kind} {count:,}, the first: {first.message}", stacklevel=1)
        if self.crowds == "ignore" and (crowds := coco.crowds(document)):
            alone = [name for name, (count, total) in crowds.items() if count == total]
            if split == "train" and alone:
                raise UserError(f"{document.file}: {only_crowds_message(alone)}")
            counted = list_crowds(crowds)
            warnings.warn(f"{document.file}: crowds are neither trained on nor measured: {counted}", stacklevel=1)
        paths = [image.path for image in document.images]
        groups = groups_by_name(paths, self.group)
        size, channels, reader = self.image_size, self.in_channels, self.reader(document)
        return MaskFiles(document.images, paths, channels, size, self.keep_aspect, reader=reader, groups=groups)

    def annotation_faults(self) -> Iterable[Fault]:
        for split, file in self.files_of_splits.items():
            try:
                document = self.document(split)
                reader = self.reader(document)
            except UserError as error:
                yield unreadable_fault(file, error)
                continue
            yield from faults.document_faults(document, reader)
        yield from faults.unlisted_image_faults(self._documents.values())


class DigitMasks(MaskDataModule):
    """Scenes of handwritten digits on a textured background. The classes are the background and the ink of each digit.

    Each split has digits of its own; a fifth of them is for the test split, which does not depend on the seed.

    Args:
        train, val, test: the numbers of scenes.
    """

    def __init__(self, train: int = 2000, val: int = 200, test: int = 400, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.counts = {"train": train, "val": val, "test": test}

    def find_class_names(self) -> list[str]:
        return ["ground", *(str(digit) for digit in range(10))]

    def find_in_channels(self) -> int:
        return 1

    def load_split(self, split: str) -> Samples | None:
        if not self.counts[split]:
            return None
        pixels, labels = digits()
        rest, test = stratified_split(labels, 0.2, seed=0)
        train, val = (rest[part] for part in stratified_split(labels[rest], 0.1, self.seed))
        chosen = {"train": train, "val": val, "test": test}[split]
        require_drawable(self.counts[split], HEIGHT, WIDTH)
        scenes = make_scenes(pixels[chosen], labels[chosen], self.counts[split], seed=len(split))
        return Tensors([None] * len(scenes), scenes)


def _without_ids(entries: Iterable[Entry]) -> list[Entry]:
    return [entry._replace(id=0) for entry in entries]


def _colour(name: str, colour: Sequence[int]) -> tuple[int, int, int]:
    if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
        raise UserError(f"data.colors: '{name}' is {list(colour)}, but must be three numbers from 0 to 255")
    return colour[0], colour[1], colour[2]
