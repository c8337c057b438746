"""Data modules of images with masks. A mask has a class number (an index of `class_names`) or 255 for each pixel.

All of them also take the arguments of `kit.data.ImageDataModule`: batch_size, augment, cache, mean, std, balanced, ...
"""

import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from kit.data import ImageDataModule, Samples, Tensors
from kit.data.decode import Channels, ImageSize, find_channels, validate_size
from kit.data.digits import digits
from kit.data.splitting import stratified_split
from kit.formats.coco import Crowds, Document
from kit.formats.folders import data_folder, groups_by_name
from kit.formats.masks.class_list import ClassList, reader_of_all_ids
from kit.formats.masks.classes import Entry
from kit.formats.masks.coco import CocoShapes
from kit.formats.masks.coco_files import CocoFiles
from kit.formats.masks.faults import pair_faults
from kit.formats.masks.mask_images import MaskImages
from kit.formats.masks.masks import (
    MaskFiles,
    Reader,
    collate_masks,
    count_pixels,
    hashable_target,
    image_and_mask,
    rarest_classes,
)
from kit.formats.pairs import MASKS, find_pairs, why_unpaired
from kit.ground.errors import UserError
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


class AnnotatedFiles(MaskDataModule):
    """The base class of data modules with mask files or JSON files.

    Args:
        root: the folder of the data set.
        image_size: the height and width; None keeps the size of each image. The images of a training batch are
            then padded to one size, and evaluation takes one image at a time.
        keep_aspect: fit images into `image_size` and pad them, instead of stretching them.
        group: a regular expression such as `^(patient\\d+)_`. Files for which its first capture group has the same
            text are one group. If a validation part is split off from train, no group is divided.
        channels: 1, 3 or 4; by default, 1 if a sample of the images is all grey, else 3.
    """

    hashable_target = staticmethod(hashable_target)

    def __init__(
        self,
        root: str = "data",
        image_size: ImageSize | None = (256, 256),
        keep_aspect: bool = False,
        group: str | None = None,
        channels: Channels | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.group, self.channels, self.keep_aspect = data_folder(root), group, channels, keep_aspect
        self.image_size = validate_size(image_size, "data.image_size")

    def make_samples(self, images: list[Path], targets: Sequence[Any], reader: Reader) -> Samples:
        """Return images with their masks, which `reader` reads from `targets`."""
        size, channels, groups = self.image_size, self.in_channels, groups_by_name(images, self.group)
        return MaskFiles(targets, images, channels, size, self.keep_aspect, reader=reader, groups=groups)


class MaskFolder(AnnotatedFiles):
    """Images and mask files, in separate folders or side by side. See `kit.formats.pairs` for the layouts.

    An id is the pixel value of a class in the mask files, or its position in `colors`. The names of the classes come
    from `colors`, `class_names`, or a class table in `root` or beside the files (see `kit.formats.masks.classes`);
    otherwise the ids are the names. If all files contain only 0 and 255, these are the ids of `background` and
    `foreground`.

    Args:
        root: the folder of the data set.
        images, masks: the names of the folders of images and masks, in `root` or in the folder of each split; by
            default they are found.
        class_names: the names for the ids 0, 1, 2, ..., or for `ids`. Ids with the same name become one class.
        ids: the id of each class, if they are not 0, 1, 2, ..., such as `[0, 128, 255]`.
        colors: red, green and blue of each class by name, for coloured masks.
        ignore: ids to leave out of the loss and the metrics. By default, those of classes with names such as void,
            unlabelled or ignore. 255 is ignored, too, if it is not the id of a class.
    """

    def __init__(
        self,
        root: str = "data",
        images: str | None = None,
        masks: str | None = None,
        class_names: list[str] | None = None,
        ids: list[int] | None = None,
        colors: dict[str, list[int]] | None = None,
        ignore: list[int] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.pairs = find_pairs(self.root, MASKS, images, masks)
        self.class_list = ClassList(self.root, self.pairs, class_names, ids, colors, ignore)

    def find_class_names(self) -> list[str]:
        return self.class_list.class_names()

    def find_in_channels(self) -> int:
        return self.channels or find_channels(next(pairs.images for pairs in self.pairs.values() if pairs.images))

    @cached_property
    def reader(self) -> MaskImages:
        """The object that reads mask files and turns their ids into class numbers."""
        return self.class_list.reader(self.class_names)

    def load_split(self, split: str) -> Samples | None:
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
        return self.make_samples(pairs.images, pairs.files, self.reader)  # the files are masks

    def _is_unlabelled(self, split: str) -> bool:
        """Return whether a split is a test set whose images all lack masks, as is common."""
        return split == "test" and not self.pairs[split].images and not self.pairs[split].lone_files

    def state_dict(self) -> dict[str, Any]:
        entries = [tuple(entry) for entry in self.class_list.entries]  # id, name and colour of each class
        return {**super().state_dict(), "pixel_values": entries}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        entries = state.get("pixel_values", ())  # another data module's checkpoint has none
        self.class_list.entries_of_checkpoint = [Entry(*entry) for entry in entries] or None

    def annotation_faults(self) -> Iterable[Fault]:
        try:
            reader = self.reader
        except UserError:  # the classes are unknown
            reader = reader_of_all_ids()
        for split, pairs in self.pairs.items():
            yield from pair_faults(pairs, reader, "warning" if self._is_unlabelled(split) else "error")


class CocoMasks(AnnotatedFiles):
    """Polygons and run lengths of COCO's JSON, in the layouts of `kit.formats.coco`. Class 0 is the background.

    Args:
        root: the folder of the data set.
        train, val, test: the JSON files, relative to `root`; by default they are found by their names.
        images: the folder of the images, relative to `root`; by default it is found.
        crowds: `ignore` ignores the pixels of annotations with `iscrowd` 1; `objects` uses them like all others.
    """

    def __init__(
        self,
        root: str = "data",
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        images: str | None = None,
        crowds: Crowds = "ignore",
        **kwargs: Any,
    ) -> None:
        super().__init__(root, **kwargs)
        self.coco_files = CocoFiles(self.root, {"train": train, "val": val, "test": test}, images, crowds)

    def find_class_names(self) -> list[str]:
        return self.coco_files.class_names()

    def find_in_channels(self) -> int:
        return self.channels or find_channels([image.path for image in self.coco_files.main_document().images])

    def reader(self, document: Document) -> CocoShapes:
        """Return the object that draws the annotations of an image as a mask of class numbers."""
        return self.coco_files.reader(document, self.class_names)

    def load_split(self, split: str) -> Samples | None:
        if split not in self.coco_files.files:
            return None
        document = self.coco_files.usable_document(split)
        return self.make_samples([image.path for image in document.images], document.images, self.reader(document))

    def annotation_faults(self) -> Iterable[Fault]:
        return self.coco_files.faults(self.reader)


class DigitMasks(MaskDataModule):
    """Scenes of handwritten digits on a textured background. The classes are the ten digits and `ground`.

    No image of a digit is in two splits. A fifth of the digits is for test, whatever the seed.

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
        self.refuse_other_classes(self.find_class_names())
        pixels, labels = digits()
        rest, test = stratified_split(labels, 0.2, seed=0)
        train, val = (rest[part] for part in stratified_split(labels[rest], 0.1, self.seed))
        subset, seed = {"train": (train, 5), "val": (val, 3), "test": (test, 4)}[split]
        scenes = make_scenes(pixels[subset], labels[subset], self.counts[split], seed)
        return Tensors([None] * len(scenes), scenes)  # the last channel of a scene is its mask
