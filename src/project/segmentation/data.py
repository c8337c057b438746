"""Data modules of images with masks. A mask has a class number (an index of `class_names`) or 255 for each pixel.

Each also takes the arguments of `kit.data.ImageDataModule`: batch_size, augment, cache, mean, std, balanced, ...
"""

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from kit.data import ImageDataModule, Samples, Tensors
from kit.data.decode import Channels, ImageSize, find_channels, validate_size
from kit.data.digits import digits
from kit.data.splitting import stratified_split
from kit.formats.coco import Crowds, Document, find, list_crowds, only_crowds_message
from kit.formats.folders import data_folder, groups_by_name
from kit.formats.masks import coco, faults
from kit.formats.masks.classes import (
    HIGHEST_ID,
    TABLE_NAMES,
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
from kit.ground.ranges import NonNegativeInt, PositiveInt
from kit.masks.scenes import make_scenes


class MaskDataModule(ImageDataModule):
    """The base class of data modules with masks."""

    sample, collate = staticmethod(image_and_mask), staticmethod(collate_masks)

    def count_classes(self, samples: Samples) -> list[int]:
        return count_pixels(samples, self.num_classes)

    def strata(self, samples: Samples) -> Tensor:
        return rarest_classes(samples, self.num_classes)

    def class_number(self, name: str) -> int:
        if name not in self.class_names:
            raise UserError(f"{self.root}: the model has no class '{name}'{did_you_mean(name, self.class_names)}")
        return self.class_names.index(name)


class MaskFolder(MaskDataModule):
    """Images and mask files, in separate folders or side by side. See `kit.formats.pairs` for the layouts.

    An id is the pixel value of a class in the mask files, or its position in `colors`. The names of the classes come
    from `class_names`, `colors` or a class table in `root` (see `classes.read_table`); otherwise the ids are the names.
    If all files contain only 0 and 255, these are the ids of two classes.

    Args:
        root: the folder of the data set.
        images, masks: the names of the folders of images and masks, in `root` or in the folder of each split; by
            default they are found.
        image_size: the height and width; None keeps the size of each image. Training then needs an augmentation that
            crops to one size, and evaluation takes one image at a time.
        keep_aspect: fit images into `image_size` and pad them, instead of stretching them.
        class_names: the names for the ids 0, 1, 2, ..., or for `ids`. Ids with the same name become one class.
        ids: the id of each class, if they are not 0, 1, 2, ..., such as `[0, 128, 255]`.
        colors: red, green and blue of each class by name, for coloured masks.
        ignore: ids to leave out of the loss and the metrics. By default, those of classes with names such as void,
            unlabelled or ignore. 255 is ignored, too, if it is not the id of a class.
        group: a regular expression such as `^(patient\\d+)_`. Images whose file names match it with the same first
            capture group stay in one split.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    hashable_target = staticmethod(hashable_target)

    def __init__(
        self,
        root: str = "data",
        images: str | None = None,
        masks: str | None = None,
        image_size: ImageSize | None = (256, 256),
        keep_aspect: bool = False,
        class_names: list[str] | None = None,
        ids: list[int] | None = None,
        colors: dict[str, list[int]] | None = None,
        ignore: list[int] | None = None,
        group: str | None = None,
        channels: Channels | None = None,
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
        """The id, name and colour of each class, including ignored ones, see `kit.formats.masks.classes`.

        A checkpoint's entries are used, unless `ids` is given or the given class names differ from the checkpoint's.
        """
        named = self._named_entries()
        if self.ids is not None:
            if named is not None and len(named) != len(self.ids):
                raise UserError(f"data.ids has {len(self.ids)} ids, but there are {len(named)} class names")
            named = named or [Entry(id, str(id), None) for id in self.ids]
            return [entry._replace(id=id) for entry, id in zip(named, self.ids, strict=True)]
        if self._entries_of_checkpoint is not None and (
            named is None or _without_ids(named) == _without_ids(self._entries_of_checkpoint)
        ):
            return self._entries_of_checkpoint
        masks = [mask for pairs in self.pairs.values() for mask in pairs.files]
        return infer_entries(named, lambda: read_pixel_values(masks), self.ignore or (), self.root)

    def _named_entries(self) -> list[Entry] | None:
        """Return the entries given by the arguments or by a class table, or None if neither gives any."""
        if self.colors is not None:
            colors = [(name.strip(), _parse_color(name, color)) for name, color in self.colors.items()]
            return [Entry(id, *named_color) for id, named_color in enumerate(colors)]
        if self.names is not None:
            return [Entry(id, name.strip(), None) for id, name in enumerate(self.names)]
        folders = [path.parent for pairs in self.pairs.values() for path in (*pairs.files[:1], *pairs.images[:1])]
        table = first_file([self.root, *dict.fromkeys(folders)], TABLE_NAMES)
        return read_table(table) if table else None

    def find_class_names(self) -> list[str]:
        names = list(dict.fromkeys(entry.name for entry in self.entries if not self._is_ignored(entry)))
        if len(names) < 2:
            listed = ", ".join(entry.name for entry in self.entries)
            remedy = "give --data.class_names or --data.ignore '[]'"
            raise UserError(
                f"{self.root}: fewer than two classes, since classes are ignored or share a name: {listed}; {remedy}"
            )
        if len(names) > MAX_CLASSES:
            raise UserError(
                f"{self.root}: {len(names)} classes, but at most {MAX_CLASSES} are allowed; are these instance ids?"
            )
        return names

    def _is_ignored(self, entry: Entry) -> bool:
        return entry.name.lower() in VOID_NAMES if self.ignore is None else entry.id in self.ignore

    @cached_property
    def reader(self) -> MaskImages:
        """The object that reads mask files and turns their ids into class numbers."""
        ignored, number = self._is_ignored, self.class_number
        numbers = {entry: IGNORED if ignored(entry) else number(entry.name) for entry in self.entries}
        return make_reader(numbers, self.ignore or ())

    def find_in_channels(self) -> int:
        return self.channels or find_channels(next(pairs.images for pairs in self.pairs.values() if pairs.images))

    def load_split(self, split: str) -> Samples | None:
        pairs = self.pairs.get(split)
        if pairs is None:
            return None
        if not pairs.images and not self._is_unlabelled(split):  # no image has a mask
            raise UserError(f"{split} of {self.root}: {why_unpaired(pairs, MASKS)}; repair or remove it")
        if pairs.lone_images:
            count, first = len(pairs.lone_images), pairs.lone_images[0]
            warnings.warn(f"{count} image(s) of {split} without a mask are left out, such as {first}", stacklevel=1)
        if not pairs.images:
            return None
        groups = groups_by_name(pairs.images, self.group)
        size, channels = self.image_size, self.in_channels
        return MaskFiles(pairs.files, pairs.images, channels, size, self.keep_aspect, reader=self.reader, groups=groups)

    def _is_unlabelled(self, split: str) -> bool:
        """Return whether a split is a test set whose images all lack masks, as is common."""
        return split == "test" and not self.pairs[split].images and not self.pairs[split].lone_files

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pixel_values": [tuple(entry) for entry in self.entries]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        entries = state.get("pixel_values", ())  # another data module's checkpoint has none
        self._entries_of_checkpoint = [Entry(*entry) for entry in entries] or None

    def annotation_faults(self) -> Iterable[Fault]:
        try:
            reader = self.reader
        except UserError:  # the classes are unknown: accept all ids, to find other faults
            reader = MaskImages(tuple((id, IGNORED if id == IGNORED else 0) for id in range(HIGHEST_ID + 1)))
        for split, pairs in self.pairs.items():
            yield from faults.pair_faults(pairs, reader, "warning" if self._is_unlabelled(split) else "error")


class CocoMasks(MaskDataModule):
    """Polygons and run lengths of COCO's JSON, in the layouts of `kit.formats.coco`. Class 0 is the background.

    Args:
        root: the folder of the data set.
        train, val, test: the JSON files, relative to `root`; by default they are found by their names.
        images: the folder of the images, relative to `root`; by default it is found.
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
        image_size: ImageSize | None = (256, 256),
        keep_aspect: bool = False,
        group: str | None = None,
        channels: Channels | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.crowds = crowds
        self.root, self.images_folder, self.group, self.channels = data_folder(root), images, group, channels
        self.image_size, self.keep_aspect = validate_size(image_size, "data.image_size"), keep_aspect
        self.files_of_splits = find(self.root, {"train": train, "val": val, "test": test})
        self._documents: dict[str, Document] = {}

    def document(self, split: str) -> Document:
        if split not in self._documents:
            self._documents[split] = coco.read(self.files_of_splits[split], self.root, self.images_folder)
        return self._documents[split]

    @property
    def _main_document(self) -> Document:
        """The document of train, or the first one if there is no train. It defines the classes."""
        files = self.files_of_splits
        return self.document("train" if "train" in files else next(iter(files)))

    def find_class_names(self) -> list[str]:
        categories = self._main_document.categories
        return ["background", *dict.fromkeys(n for n in categories.values() if n.lower() != "background")]

    def reader(self, document: Document) -> coco.CocoShapes:
        """Return the object that draws the annotations of an image as a mask of class numbers."""
        background, names = self.class_number("background"), document.categories.items()
        numbers = [(id, background if name.lower() == "background" else self.class_number(name)) for id, name in names]
        return coco.CocoShapes(document.file, tuple(numbers), self.crowds, background)

    def find_in_channels(self) -> int:
        return self.channels or find_channels([image.path for image in self._main_document.images])

    def load_split(self, split: str) -> Samples | None:
        if split not in self.files_of_splits:
            return None
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
    """Scenes of handwritten digits on a textured background, whose class is `ground`. Each digit is a class.

    No image of a digit is in two splits. A fifth of these images is in the test split, the same for every seed.

    Args:
        train, val, test: the number of scenes in each split.
    """

    def __init__(
        self, train: PositiveInt = 2000, val: NonNegativeInt = 200, test: NonNegativeInt = 400, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.counts = {"train": train, "val": val, "test": test}

    def find_class_names(self) -> list[str]:
        return ["ground", *(str(digit) for digit in range(10))]

    def find_in_channels(self) -> int:
        return 1

    def load_split(self, split: str) -> Samples | None:
        if not self.counts[split]:
            return None
        self.require_classes(self.find_class_names())
        pixels, labels = digits()
        rest, test = stratified_split(labels, 0.2, seed=0)
        train, val = (rest[part] for part in stratified_split(labels[rest], 0.1, self.seed))
        subset, seed = {"train": (train, 5), "val": (val, 3), "test": (test, 4)}[split]
        scenes = make_scenes(pixels[subset], labels[subset], self.counts[split], seed)
        return Tensors([None] * len(scenes), scenes)  # the last channel of a scene is its mask


def _without_ids(entries: Iterable[Entry]) -> list[Entry]:
    return [entry._replace(id=0) for entry in entries]


def _parse_color(name: str, color: Sequence[int]) -> tuple[int, int, int]:
    if len(color) != 3 or not all(0 <= value <= 255 for value in color):
        raise UserError(f"data.colors: '{name}' is {list(color)}, but must be three numbers from 0 to 255")
    return color[0], color[1], color[2]
