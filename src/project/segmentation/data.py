"""Data modules of images with masks. A mask has a class number (an index of `class_names`) for each pixel, or 255.

255 means that the pixel is ignored, in the loss and in the metrics. All data modules also take the arguments of
`kit.data.ImageDataModule`: batch_size, augment, cache, mean, std, balanced, ...
"""

from collections.abc import Iterable
from typing import Any, Literal

from torch import Tensor

from kit.charts import Bars, Chart
from kit.data import ImageDataModule, Samples, Tensors
from kit.data.decode import Channels, ImageSize, find_channels
from kit.data.digits import digits_of
from kit.data.image_size import MASK_SIZE_RULE, choose_image_size, read_image_sizes
from kit.formats.coco import Crowds
from kit.formats.folders import data_folder, groups_by_name
from kit.formats.masks.data_sets import CocoFiles, MaskFormat, find_masks
from kit.formats.masks.mask_files import MaskPairs
from kit.formats.masks.masks import (
    MaskFiles,
    collate_masks,
    count_pixels,
    hashable_target,
    image_and_mask,
    rarest_classes,
)
from kit.formats.recognition import refuse_other_options
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

    def charts(self) -> dict[str, Chart]:
        """Return charts of the training data by their names. `labels` shows the share of each class in the pixels."""
        charts = super().charts()
        if isinstance(labels := charts.get("labels"), Bars):
            pixels = sum(labels.values.values())
            shares = {name: count / max(1, pixels) for name, count in labels.values.items()}
            texts = {name: f"{share:.2%}" for name, share in shares.items()}
            charts["labels"] = Bars("Share of each class in the training masks", "share of the pixels", shares, texts)
        return charts


class MaskFolder(MaskDataModule):
    """Your own images with masks: mask files, or polygons and run lengths in COCO's format.

    Mask files are in separate folders, or beside the images; see `kit.formats.pairs` for the layouts. The id of a class
    is its pixel value in the mask files. In coloured files, it is the index of the class in `colors`. The names of the
    classes come from `colors`, `class_names`, or a class table in `root` or beside the files (see
    `kit.formats.masks.classes`); otherwise the ids are the names. If all files contain only 0 and 255, these are the
    ids of `background` and `foreground`.

    COCO has a JSON file for each split, in the layouts of `kit.formats.coco_search`. Class 0 is the background.

    Args:
        root: the folder of the data set.
        format: `masks` or `coco`; by default, the format is recognised.
        image_size: the height and width; by default, they are chosen from the sizes of the training images, see
            `kit.data.image_size`. `native` keeps the size of each image. The images of a training batch are then padded
            to one size, and evaluation takes one image at a time.
        keep_aspect: whether to fit images into `image_size` and pad them, instead of stretching them.
        group: a regular expression such as `^(patient\\d+)_`. The text that its first capture group matches in a file
            name is the group of the image. If a validation part is split off from train, each group stays in one part.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA). By default, it is 3 if any of up to 63 sampled image files is stored in
            colour, else 1.
        images: the folder of the images; by default it is found. With mask files, give only the name of the folder. It
            is in `root`, or in the folder of each split. With COCO, give the folder's path relative to `root`.
        masks: the name of the folder of the mask files; by default it is found.
        class_names: the names for the ids 0, 1, 2, ..., or for `ids`. Ids with the same name become one class.
        ids: the id of each class in mask files, if they are not 0, 1, 2, ..., such as `[0, 128, 255]`.
        colors: red, green and blue of each class by name, for coloured mask files.
        ignore: the ids in mask files that the loss and the metrics leave out. By default, these are the ids of classes
            with names such as void, unlabelled or ignore. 255 is also ignored if it is not the id of a class.
        train, val, test: COCO's JSON files, relative to `root`; by default they are found by their names.
        crowds: `ignore` leaves the pixels of crowds, which are COCO's annotations with `iscrowd` 1, out of the loss and
            the metrics; `objects` uses crowds like all other annotations.
    """

    hashable_target = staticmethod(hashable_target)  # `check` compares the targets of equal images by it

    # these options are not kept if `test` gets another root
    root_options = ("format", "group", "images", "masks", "train", "val", "test")

    def __init__(
        self,
        root: str = "data",
        format: Literal["masks", "coco"] | None = None,
        image_size: ImageSize | Literal["native"] | None = None,
        keep_aspect: bool = False,
        group: str | None = None,
        channels: Channels | None = None,
        images: str | None = None,
        masks: str | None = None,
        class_names: list[str] | None = None,
        ids: list[int] | None = None,
        colors: dict[str, list[int]] | None = None,
        ignore: list[int] | None = None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        crowds: Crowds = "ignore",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.group, self.channels, self.keep_aspect = data_folder(root), group, channels, keep_aspect
        self.image_size = image_size
        json_files = {"train": train, "val": val, "test": test}
        if format is None and masks is not None:
            format = "masks"
        elif format is None and any(json_files.values()):
            format = "coco"
        pairs = find_masks(self.root, format, images, masks)  # None if the data are in COCO's format
        mask_options = {"masks": masks, "class_names": class_names, "ids": ids, "colors": colors, "ignore": ignore}
        # `crowds` is "ignore" by default. None means that the user has not given it.
        coco_options = {**json_files, "crowds": None if crowds == "ignore" else crowds}
        options_by_formats = {("masks",): mask_options, ("coco",): coco_options}
        refuse_other_options("coco" if pairs is None else "masks", options_by_formats)
        self.format_name = "COCO" if pairs is None else "mask files"
        self.reader: MaskFormat
        if pairs is None:
            self.reader = CocoFiles(self.root, json_files, images, crowds)
        else:
            self.reader = MaskPairs(self.root, pairs, class_names, ids, colors, ignore)

    def find_class_names(self) -> list[str]:
        return self.reader.class_names()

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self.reader.example_images())

    def find_image_size(self) -> tuple[int, int]:
        return choose_image_size(read_image_sizes(self.reader.example_images()), [], MASK_SIZE_RULE)

    def load_split(self, split: str) -> Samples | None:
        mask_split = self.reader.read(split, self.class_names)
        if mask_split is None:
            return None
        images, targets, mask_reader = mask_split
        size, channels, groups = self.input_size, self.in_channels, groups_by_name(images, self.group)
        return MaskFiles(targets, images, channels, size, self.keep_aspect, reader=mask_reader, groups=groups)

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "pixel_values": self.reader.pixel_values()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.reader.use_pixel_values(state.get("pixel_values", ()))  # another data module's checkpoint has none

    def annotation_faults(self) -> Iterable[Fault]:
        # Pass a function: finding the class names may raise an error, which `faults` handles.
        return self.reader.faults(lambda: self.class_names)


class DigitMasks(MaskDataModule):
    """Scenes of handwritten digits on a textured background. The classes are `background` and the ten digits.

    No image of a digit is in two splits, unless `val` is 0: then the training and validation scenes share digits. The
    test split does not depend on `seed`, so that runs can be compared.

    Args:
        train, val, test: the number of scenes in each split. If `val` is 0, a tenth of the train scenes is for
            validation.
    """

    format_name = "generated scenes of digits"

    def __init__(
        self, train: PositiveInt = 2000, val: NonNegativeInt = 200, test: NonNegativeInt = 400, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.counts = {"train": train, "val": val, "test": test}

    def find_class_names(self) -> list[str]:
        return ["background", *(str(digit) for digit in range(10))]

    def find_in_channels(self) -> int:
        return 1

    def load_split(self, split: str) -> Samples | None:
        if not self.counts[split]:
            return None
        self.refuse_other_classes(self.find_class_names())  # a loaded model may have other classes
        layout_seed = {"train": 5, "val": 3, "test": 4}[split]  # a different layout in each split
        scenes = make_scenes(*digits_of(split, self.seed), self.counts[split], layout_seed)
        return Tensors([None] * len(scenes), scenes)  # no targets: the last channel of a scene is its mask
