"""Data modules of images with boxes. `kit.boxes.targets` describes the targets. Label k is `class_names[k - 1]`.

Images are fitted into `image_size` without changing their aspect ratio, and padded at the right or bottom. Each data
module also takes the arguments of `kit.data.ImageDataModule`: batch_size, augment, cache, mean, std, balanced, ...
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from kit.boxes import targets
from kit.boxes.scenes import digit_scenes
from kit.charts import Chart
from kit.data import Files, ImageDataModule, Samples, Tensors
from kit.data.decode import Channels, ImageSize, find_channels
from kit.data.image_size import BOX_SIZE_RULE, choose_image_size
from kit.formats.boxes.annotation import BoxFormat, Reading
from kit.formats.boxes.cleaning import BoxSplit, clean_split
from kit.formats.boxes.coco import CocoBoxes
from kit.formats.boxes.recognition import recognise
from kit.formats.boxes.voc import VocBoxes
from kit.formats.boxes.yolo import YoloBoxes
from kit.formats.coco import Crowds, crowd_faults, list_crowds
from kit.formats.folders import data_folder, groups_by_name
from kit.formats.recognition import refuse_other_options
from kit.formats.text import unreadable_fault
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault
from kit.ground.ranges import PositiveInt


class BoxDataModule(ImageDataModule):
    """The base class of data modules with boxes."""

    keep_aspect = True
    object_noun = "boxes"
    sample, collate = staticmethod(targets.sample), staticmethod(targets.collate)

    # The first argument of these functions is the data module, so they become methods.
    count_classes, strata = targets.count_classes, targets.strata
    most_objects = property(targets.most_objects)

    def charts(self) -> dict[str, Chart]:
        return super().charts() | targets.box_charts(self)


class DigitScenes(BoxDataModule):
    """Handwritten digits (see `kit.data.digits`) at random positions on a textured background.

    The scenes are generated at the start: see `kit.boxes.scenes`. No image of a digit is in two splits. The test split
    does not depend on `seed`, so that runs can be compared.

    Args:
        scenes: the number of training scenes. Validation has a tenth as many, and test a fifth.
        image_size: the height and width of a scene.
    """

    format_name = "generated scenes of digits"

    def __init__(self, scenes: PositiveInt = 2000, image_size: ImageSize = (64, 96), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scenes, self.image_size = scenes, tuple(image_size)

    def find_class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def find_in_channels(self) -> int:
        return 3

    def load_split(self, split: str) -> Samples | None:
        self.refuse_other_classes(self.find_class_names())  # a loaded model may have other classes
        images, box_targets = digit_scenes(split, self.scenes, self.image_size, self.seed)
        return Tensors(box_targets, images)


class BoxFolder(BoxDataModule):
    """Your own images with boxes, in COCO's, Pascal VOC's or YOLO's format.

    `kit.formats.boxes` reads the formats:

    COCO: a JSON file for each split. The split is known from the file's name. An image that no file lists is left out.
    Pascal VOC: an XML file for each image. An image without an XML file is left out.
    YOLO: a text file for each image. An image without a text file has no objects. `data.yaml`, `obj.data` or the names
        of folders define the splits.

    Args:
        root: the folder of the data set, or YOLO's file that describes it: `data.yaml` or `obj.data`.
        format: `coco`, `voc` or `yolo`; by default, the format is recognised.
        image_size: the height and width into which every image is fitted; by default, they are chosen from the sizes of
            the training images and their objects, see `kit.data.image_size`.
        group: a regular expression such as `^(patient\\d+)_`. The text that its first capture group matches in a file
            name is the group of the image. If a validation part is split off from train, each group stays in one part.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA). By default, it is 3 if any of up to 63 sampled image files is stored in
            colour, else 1.
        train, val, test: COCO's JSON files, relative to `root`; by default they are found by their names.
        images: the folder of COCO's images, relative to `root`; by default it is found.
        crowds: how to use crowds: COCO's annotations with `iscrowd` 1 and Pascal VOC's `difficult` objects. `ignore`
            removes them from the training targets, so that their regions count as background in training. The metrics
            ignore detections inside a crowd's region that have the crowd's class. `objects` uses them like all other
            objects.
        names: YOLO's class names in the order of their numbers; needed if no file lists them.
    """

    hashable_target = staticmethod(targets.hashable_target)  # `check` compares the targets of equal images by it

    # these options are not kept if `test` gets another root
    root_options = ("format", "group", "images", "train", "val", "test")

    def __init__(
        self,
        root: str = "data",
        format: Literal["coco", "voc", "yolo"] | None = None,
        image_size: ImageSize | None = None,
        group: str | None = None,
        channels: Channels | None = None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        images: str | None = None,
        crowds: Crowds = "ignore",
        names: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.image_size = None if image_size is None else tuple(image_size)
        self.group, self.channels, self.crowds = group, channels, crowds
        json_files = {"train": train, "val": val, "test": test}
        if format is None and any(json_files.values()):
            format = "coco"
        elif format is None and Path(root).is_file() and Path(root).suffix.lower() in (".yaml", ".yml", ".data"):
            format = "yolo"
        self.root = Path(root) if format == "yolo" and Path(root).is_file() else data_folder(root)
        format = recognise(self.root, format)
        options_by_formats = {("coco",): {**json_files, "images": images}, ("yolo",): {"names": names}}
        options_by_formats["coco", "voc"] = {"crowds": None if crowds == "ignore" else crowds}
        refuse_other_options(format, options_by_formats)
        self.format_name = format.upper()
        self.reader: BoxFormat
        if format == "coco":
            self.reader = CocoBoxes(self.root, json_files, images)
        else:
            self.reader = VocBoxes(self.root) if format == "voc" else YoloBoxes(self.root, names)
        self._annotated_splits: dict[str, Reading] = {}
        self._box_splits: dict[str, BoxSplit] = {}

    def annotated_split(self, split: str) -> Reading:
        """Return the annotations of an existing split. They are read once and cached.

        `box_split(split)` removes their boxes to save memory, so use the boxes before.
        """
        if split not in self._annotated_splits:
            self._annotated_splits[split] = self.reader.read(split)
            if self.crowds == "objects":
                for annotation in self._annotated_splits[split].annotations:
                    annotation.boxes = [box._replace(crowd=False) for box in annotation.boxes]
        return self._annotated_splits[split]

    def find_class_names(self) -> list[str]:
        split = next(iter(self.reader.sources))  # train, if there is one
        annotated_split = self.annotated_split(split)
        names = list(dict.fromkeys(annotated_split.class_names))
        if not names:  # a fault in the files may be the cause: raise its error first, since it is more specific
            clean_split(annotated_split, names).stop_if_unusable(split, self.root)
            raise UserError(f"{self.root}: nothing is annotated in {split}")
        return names

    def find_in_channels(self) -> int:
        split = next(iter(self.reader.sources))  # train, if there is one
        annotations = self.annotated_split(split).annotations
        return self.channels or find_channels([annotation.image for annotation in annotations])

    def find_image_size(self) -> tuple[int, int]:
        split = next(iter(self.reader.sources))  # train, if there is one
        box_targets = self.box_split(split).targets
        readable_sizes = box_targets.sizes[box_targets.sizes.prod(1) > 1]  # the size of an unreadable image is 1 x 1
        return choose_image_size(readable_sizes, targets.object_shares(box_targets), BOX_SIZE_RULE)

    def box_split(self, split: str) -> BoxSplit | None:
        """Return a split without unusable boxes and with a list of its faults, or None if there is no such split."""
        if split in self.reader.sources and split not in self._box_splits:
            self._box_splits[split] = clean_split(self.annotated_split(split), self._known_class_names())
        return self._box_splits.get(split)

    def _known_class_names(self) -> list[str]:
        try:
            return self.class_names
        except UserError:  # the training annotations are unreadable or empty: use the names that were read so far
            return [name for annotated in self._annotated_splits.values() for name in annotated.class_names]

    def load_split(self, split: str) -> Samples | None:
        """Return a split without unusable boxes, and warn of its faults. Raise an error if a fault stops training."""
        box_split = self.box_split(split)
        if box_split is None:
            return None
        self.class_names  # noqa: B018  raises an error if there are no classes
        box_split.stop_if_unusable(split, self.root)
        if box_split.faults:
            rank_zero_warn(f"{split}: {box_split.count_faults()}; run `check` with the same options to list the files")
        if crowds := box_split.crowds():
            meaning = "crowds are not training targets, and the metrics ignore a detection inside one of the same class"
            rank_zero_warn(f"{split}: {meaning}: {list_crowds(crowds)}")
        return self._files(box_split)

    def load_splits(self) -> dict[str, Samples]:
        """Return the readable splits, for `check`. Unlike `load_split`, raise no error if a fault stops training."""
        splits = {}
        for split in ("train", "val", "test"):
            with suppress(BrokenFiles):  # `annotation_faults` reports them
                if (box_split := self.box_split(split)) is not None:
                    splits[split] = self._files(box_split)
        return splits

    def _files(self, box_split: BoxSplit) -> Files:
        size, groups = self.input_size, groups_by_name(box_split.paths, self.group)
        return Files(box_split.targets, box_split.paths, self.in_channels, size, self.keep_aspect, groups=groups)

    def annotation_faults(self) -> Iterator[Fault]:
        """Yield the faults of annotations. `check` itself reports images that cannot be read."""
        for split, source in self.reader.sources.items():
            try:
                self.annotated_split(split)
            except UserError as error:  # a broken JSON file; broken XML and text files are in `Reading.faults`
                yield unreadable_fault(source, error)
        yield from self.reader.faults(self._annotated_splits.values())
        for split in self._annotated_splits:
            box_split = self.box_split(split)
            yield from box_split.faults
            yield from crowd_faults(box_split.crowds(), self.root)
            if reason := box_split.why_unusable(split):
                yield Fault("unusable", "error", str(self.root), None, f"training would stop here: {reason}")
