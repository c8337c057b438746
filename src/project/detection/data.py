"""Data modules of images with boxes. `kit.boxes.targets` describes the targets. Labels are 1 to K, as in `class_names`.

Images are fitted into `image_size` with their aspect ratio, and padded at the right or bottom.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from kit.boxes import targets
from kit.boxes.scenes import make_scenes
from kit.data import Files, ImageDataModule, Samples, Tensors
from kit.data.decode import find_channels
from kit.data.digits import digits, require_drawable
from kit.data.splitting import stratified_split
from kit.formats.boxes import coco, voc, yolo
from kit.formats.boxes.annotation import BoxSplit, Reading, clean_split, missing_annotation
from kit.formats.coco import Crowds, crowd_faults, find, list_crowds
from kit.formats.folders import data_folder, groups_by_name
from kit.formats.pairs import XML_FILES, find_pairs
from kit.formats.paths import unlisted_images
from kit.formats.text import unreadable_fault
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault


class DigitScenes(ImageDataModule):
    """Handwritten digits (see `kit.data.digits`) at random positions on a textured background.

    The scenes are generated at the start. Each split has digits of its own. The test split does not depend on the seed
    of the run, so that runs can be compared. The seed decides which digits are in the validation split.

    Args:
        scenes: the number of training scenes. There is a tenth as many for validation, and a fifth for the test.
        image_size: the height and width.
    """

    keep_aspect = True

    def __init__(self, scenes: int = 2000, image_size: tuple[int, int] = (64, 96), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scenes, self.image_size = scenes, tuple(image_size)

    def find_class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def find_in_channels(self) -> int:
        return 3

    def load_split(self, split: str) -> Samples | None:
        images, labels = digits()
        rest, test = stratified_split(labels, 0.2, seed=0)
        train, val = stratified_split(labels[rest], 0.1, self.seed)
        chosen, share, seed = {"train": (rest[train], 1, 0), "val": (rest[val], 10, 1), "test": (test, 5, 2)}[split]
        count = max(1, self.scenes // share)
        require_drawable(count, *self.image_size)
        scenes, boxes = make_scenes(images[chosen], labels[chosen], count, self.image_size, seed)
        return Tensors(boxes, scenes)

    sample, collate = staticmethod(targets.sample), staticmethod(targets.collate)
    strata, count_classes, most_objects = targets.strata, targets.count_classes, property(targets.most_objects)


class Annotated(ImageDataModule):
    """The base class of data modules with annotation files.

    A subclass sets `sources`, the annotation files by split, and defines `read(split)`. If it sets `crowds` to
    "objects", crowds are used like all other objects.

    Args:
        root: the folder.
        image_size: the height and width that every image is fitted into.
        group: a regular expression such as `^(patient\\d+)_`. Images whose file names have the same first group are
            never split.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    keep_aspect = True
    crowds: Crowds = "ignore"
    sources: dict[str, Any]
    find_root = staticmethod(data_folder)

    def __init__(
        self,
        root: str = "data",
        image_size: tuple[int, int] = (320, 320),
        group: str | None = None,
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.group, self.channels = self.find_root(root), tuple(image_size), group, channels
        self.readings: dict[str, Reading] = {}
        self._cleaned: dict[str, BoxSplit] = {}

    def read(self, split: str) -> Reading:
        """Read the annotations of a split."""
        raise NotImplementedError(f"{type(self).__name__} does not define read(split)")

    def reading(self, split: str) -> Reading | None:
        """Return the annotations of a split as they are, or None if there is no such split."""
        if split in self.sources and split not in self.readings:
            self.readings[split] = self.read(split)
            for annotation in self.readings[split].annotations if self.crowds == "objects" else ():
                annotation.boxes = [box._replace(crowd=False) for box in annotation.boxes]
        return self.readings.get(split)

    def find_class_names(self) -> list[str]:
        train = self.reading("train")
        names = list(dict.fromkeys(name.strip() for name in train.class_names)) if train else []
        if not names:
            raise UserError(f"{self.root}: nothing is annotated for training")
        return names

    def find_in_channels(self) -> int:
        first = self.reading(next(iter(self.sources)))
        return self.channels or find_channels([annotation.image for annotation in first.annotations])

    def cleaned(self, split: str) -> BoxSplit | None:
        """Return a split without its unusable boxes, with the list of its faults, or None if there is no such split."""
        reading = self.reading(split)
        if reading is not None and split not in self._cleaned:
            self._cleaned[split] = clean_split(reading, self._class_names_or_all())
        return self._cleaned.get(split)

    def _class_names_or_all(self) -> list[str]:
        try:
            return self.class_names
        except UserError:  # the training annotations cannot be read, or are empty
            return [name.strip() for reading in self.readings.values() for name in reading.class_names]

    def load_split(self, split: str) -> Samples | None:
        """Load a split without its unusable images and boxes, which a warning counts.

        Raises:
            UserError: too much of the split cannot be used.
        """
        cleaned = self.cleaned(split)
        if cleaned is None:
            return None
        self.class_names  # noqa: B018  raises an error if there are none
        cleaned.stop_if_unusable(split, self.root)
        if cleaned.faults:
            rank_zero_warn(f"{split}: {cleaned.count_faults()}; python -m project.check names the files")
        if crowds := cleaned.crowds():
            rank_zero_warn(f"{split}: crowds are neither trained on nor measured: {list_crowds(crowds)}")
        return self._files(cleaned)

    def splits(self) -> dict[str, Samples]:
        """Return the splits without stopping at a broken image or box, so that `check` also sees all others."""
        splits = {}
        for split in ("train", "val", "test"):
            with suppress(BrokenFiles):  # `annotation_faults` reports them
                if (cleaned := self.cleaned(split)) is not None:
                    splits[split] = self._files(cleaned)
        return splits

    def _files(self, split: BoxSplit) -> Files:
        groups = groups_by_name(split.paths, self.group)
        return Files(split.targets, split.paths, self.in_channels, self.image_size, self.keep_aspect, groups=groups)

    def annotation_faults(self) -> Iterable[Fault]:
        return self.faults_of(self.sources)

    def faults_of(self, splits: Iterable[str]) -> Iterator[Fault]:
        """Yield the faults of annotations. The check of images reports images that cannot be read."""
        for split in splits:
            cleaned = self.cleaned(split)
            yield from cleaned.faults
            yield from crowd_faults(cleaned.crowds(), self.root)
            if reason := cleaned.why_unusable(split):
                yield Fault("unusable", "error", str(self.root), None, f"training would stop here: {reason}")

    sample, collate = staticmethod(targets.sample), staticmethod(targets.collate)
    strata, count_classes, most_objects = targets.strata, targets.count_classes, property(targets.most_objects)
    hashable_target = staticmethod(targets.hashable_target)


class Coco(Annotated):
    """COCO's JSON, as in the data set itself and as exported by Roboflow, CVAT and Label Studio.

    Args:
        train, val, test: JSON files below `root`, if they are not found by their names.
        images: the folder below `root` that contains the images, if it is not found.
        crowds: `ignore` makes annotations with `iscrowd` 1 regions to ignore; `objects` uses them like all others.
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
        self.sources = find(self.root, {"train": train, "val": val, "test": test})

    def read(self, split: str) -> Reading:
        return coco.read(self.sources[split], self.root, self.images)

    def annotation_faults(self) -> Iterable[Fault]:
        readings = {}
        for split, file in self.sources.items():
            try:
                readings[split] = self.reading(split)
            except UserError as error:
                yield unreadable_fault(file, error)
        yield from self.faults_of(readings)
        images = {annotation.image for reading in readings.values() for annotation in reading.annotations}
        for image in unlisted_images(images):
            yield missing_annotation(image, "no JSON file names it, and it is left out")


class Voc(Annotated):
    """Pascal VOC's XML files, as in the data set itself and as written by Roboflow, CVAT and labelImg.

    Corners are used as they are written, whether they count pixels from 0 or from 1. An image without an XML file is
    left out.

    Args:
        crowds: `ignore` makes `difficult` objects regions to ignore; `objects` uses them like all others.
    """

    def __init__(self, crowds: Crowds = "ignore", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crowds = crowds
        self.sources = find_pairs(self.root, XML_FILES)

    def read(self, split: str) -> Reading:
        return voc.read(self.sources[split])


class Yolo(Annotated):
    """YOLO's text files with `data.yaml`, `obj.data` or folders: of Ultralytics, Roboflow, CVAT and labelImg.

    An image without a text file has no objects. `root` may be the YAML file.

    Args:
        names: the names of the classes in the order of their numbers, if no file lists them.
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
        return list(dict.fromkeys(name.strip() for name in self.layout.class_names))
