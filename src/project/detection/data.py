"""Data modules of images with boxes. `kit.boxes.targets` describes the targets. Label k is `class_names[k - 1]`.

Images are fitted into `image_size` with their aspect ratio, and padded at the right or bottom. Each data module also
takes the arguments of `kit.data.ImageDataModule`: batch_size, augment, cache, mean, std, balanced, ...
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from kit.boxes import targets
from kit.boxes.scenes import digit_scenes
from kit.data import Files, ImageDataModule, Samples, Tensors
from kit.data.decode import Channels, ImageSize, find_channels
from kit.formats.boxes import coco, voc, yolo
from kit.formats.boxes.annotation import Reading, missing_annotation
from kit.formats.boxes.cleaning import BoxSplit, clean_split
from kit.formats.coco import Crowds, crowd_faults, find, list_crowds
from kit.formats.folders import data_folder, groups_by_name
from kit.formats.pairs import XML_FILES, find_pairs
from kit.formats.paths import unlisted_images
from kit.formats.text import unreadable_fault
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault
from kit.ground.ranges import PositiveInt


class BoxDataModule(ImageDataModule):
    """The base class of data modules with boxes."""

    keep_aspect = True
    sample, collate = staticmethod(targets.sample), staticmethod(targets.collate)

    count_classes, strata = targets.count_classes, targets.strata
    most_objects = property(targets.most_objects)


class DigitScenes(BoxDataModule):
    """Handwritten digits (see `kit.data.digits`) at random positions on a textured background.

    The scenes are generated at the start. No image of a digit is in two splits. The seed of the run decides which
    images of digits are for validation. The test split does not depend on it, so that runs can be compared.

    Args:
        scenes: the number of training scenes. Validation has a tenth as many, and test a fifth.
        image_size: the height and width of a scene.
    """

    def __init__(self, scenes: PositiveInt = 2000, image_size: ImageSize = (64, 96), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scenes, self.image_size = scenes, tuple(image_size)

    def find_class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def find_in_channels(self) -> int:
        return 3

    def load_split(self, split: str) -> Samples | None:
        self.refuse_other_classes(self.find_class_names())
        scenes, boxes = digit_scenes(split, self.scenes, self.image_size, self.seed)
        return Tensors(boxes, scenes)


class AnnotatedFiles(BoxDataModule):
    """The base class of data modules with annotation files.

    A subclass defines `read(split)`, and sets `sources`: the files of each split, in any form that `read` needs. If it
    sets `crowds` to "objects", crowds are used like all other objects.

    Args:
        root: the folder of the data set.
        image_size: the height and width into which every image is fitted.
        group: a regular expression such as `^(patient\\d+)_`. Files for which its first capture group has the same
            text are one group. If a validation part is split off from train, no group is divided.
        channels: 1, 3 or 4; by default, 1 if a sample of the images is all grey, else 3.
    """

    crowds: Crowds = "ignore"
    sources: dict[str, Any]
    find_root = staticmethod(data_folder)
    hashable_target = staticmethod(targets.hashable_target)

    def __init__(
        self,
        root: str = "data",
        image_size: ImageSize = (320, 320),
        group: str | None = None,
        channels: Channels | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.group, self.channels = self.find_root(root), tuple(image_size), group, channels
        self._readings: dict[str, Reading] = {}
        self._cleaned: dict[str, BoxSplit] = {}

    def read(self, split: str) -> Reading:
        """Read the annotation files of a split."""
        raise NotImplementedError(f"{type(self).__name__} does not define read(split)")

    def reading(self, split: str) -> Reading:
        """Return the annotations of a split in `sources`. They are read only once."""
        if split not in self._readings:
            self._readings[split] = self.read(split)
            for annotation in self._readings[split].annotations if self.crowds == "objects" else ():
                annotation.boxes = [box._replace(crowd=False) for box in annotation.boxes]
        return self._readings[split]

    def find_class_names(self) -> list[str]:
        split = next(iter(self.sources))  # train, if there is one
        reading = self.reading(split)
        names = list(dict.fromkeys(reading.class_names))
        if not names:  # the cause may be a fault in the files, which has a better message
            clean_split(reading, names).stop_if_unusable(split, self.root)
            raise UserError(f"{self.root}: nothing is annotated in {split}")
        return names

    def find_in_channels(self) -> int:
        first = self.reading(next(iter(self.sources)))
        return self.channels or find_channels([annotation.image for annotation in first.annotations])

    def cleaned(self, split: str) -> BoxSplit | None:
        """Return a split without unusable boxes, with the list of its faults, or None if there is no such split."""
        if split in self.sources and split not in self._cleaned:
            self._cleaned[split] = clean_split(self.reading(split), self._known_class_names())
        return self._cleaned.get(split)

    def _known_class_names(self) -> list[str]:
        try:
            return self.class_names
        except UserError:  # the training annotations are unreadable or empty: use the names that were read so far
            return [name for reading in self._readings.values() for name in reading.class_names]

    def load_split(self, split: str) -> Samples | None:
        """Return a split without unusable boxes, with a warning. Raise an error if training would learn wrong boxes."""
        cleaned = self.cleaned(split)
        if cleaned is None:
            return None
        self.class_names  # noqa: B018  raises an error if there are no classes
        cleaned.stop_if_unusable(split, self.root)
        if cleaned.faults:
            rank_zero_warn(f"{split}: {cleaned.count_faults()}; `check` with the same options names the files")
        if crowds := cleaned.crowds():
            rank_zero_warn(f"{split}: crowds are neither trained on nor measured: {list_crowds(crowds)}")
        return self._files(cleaned)

    def load_splits(self) -> dict[str, Samples]:
        """Return the splits that can be read. Boxes that cannot be used raise no error: `check` reports them."""
        splits = {}
        for split in ("train", "val", "test"):
            with suppress(BrokenFiles):  # `annotation_faults` reports them
                if (cleaned := self.cleaned(split)) is not None:
                    splits[split] = self._files(cleaned)
        return splits

    def _files(self, cleaned: BoxSplit) -> Files:
        groups = groups_by_name(cleaned.paths, self.group)
        return Files(cleaned.targets, cleaned.paths, self.in_channels, self.image_size, self.keep_aspect, groups=groups)

    def annotation_faults(self) -> Iterator[Fault]:
        """Yield the faults of annotations. `check` itself reports images that cannot be read."""
        for split, source in self.sources.items():
            try:
                self.reading(split)
            except UserError as error:  # a JSON file; unreadable XML and text files are faults of the reading
                yield unreadable_fault(source, error)
        for split in self._readings:
            cleaned = self.cleaned(split)
            yield from cleaned.faults
            yield from crowd_faults(cleaned.crowds(), self.root)
            if reason := cleaned.why_unusable(split):
                yield Fault("unusable", "error", str(self.root), None, f"training would stop here: {reason}")


class Coco(AnnotatedFiles):
    """COCO's JSON files, also as Roboflow, CVAT and Label Studio export them.

    Args:
        train, val, test: the JSON files, relative to `root`; by default they are found by their names.
        images: the folder of the images, relative to `root`; by default it is found.
        crowds: `ignore` ignores the regions of annotations with `iscrowd` 1; `objects` uses them like all others.
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        images: str | None = None,
        crowds: Crowds = "ignore",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.images, self.crowds = images, crowds
        try:
            self.sources = find(self.root, {"train": train, "val": val, "test": test})
        except UserError as error:
            if any(self.root.rglob("*.json")):
                raise
            kind = Voc if any(self.root.rglob("*.xml")) else Yolo if any(self.root.rglob("labels")) else None
            hint = f"; it looks like the format of --data {__package__}.{kind.__name__}" if kind else ""
            raise UserError(f"{error}{hint}") from None

    def read(self, split: str) -> Reading:
        return coco.read(self.sources[split], self.root, self.images)

    def annotation_faults(self) -> Iterator[Fault]:
        yield from super().annotation_faults()
        images = {annotation.image for reading in self._readings.values() for annotation in reading.annotations}
        for image in unlisted_images(images):
            yield missing_annotation(image, "it is left out, since no JSON file names it")


class Voc(AnnotatedFiles):
    """Pascal VOC's XML files, also as Roboflow, CVAT and labelImg write them.

    Coordinates are used as they are written, whether the file counts pixels from 0 or from 1. An image without an XML
    file is left out.

    Args:
        crowds: `ignore` ignores the regions of `difficult` objects; `objects` uses them like all others.
    """

    def __init__(self, crowds: Crowds = "ignore", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crowds = crowds
        self.sources = find_pairs(self.root, XML_FILES)

    def read(self, split: str) -> Reading:
        return voc.read(self.sources[split])


class Yolo(AnnotatedFiles):
    """YOLO's text files, as Ultralytics, Roboflow, CVAT and labelImg write them.

    `data.yaml`, `obj.data` or the names of folders define the splits. `root` may be the YAML file. An image without a
    text file has no objects.

    Args:
        names: the names of the classes in the order of their numbers; needed if no file lists them.
    """

    def __init__(self, names: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layout = yolo.find(self.root, names)
        self.sources = self.layout.splits

    @staticmethod
    def find_root(root: str) -> Path:
        return Path(root) if Path(root).is_file() else data_folder(root)

    def read(self, split: str) -> Reading:
        return yolo.read(self.layout.splits[split], self.layout)

    def find_class_names(self) -> list[str]:
        return list(dict.fromkeys(self.layout.class_names))
