"""Where images with boxes come from. For targets see `kit.boxes.targets`; labels are 1 to K by `class_names`.

Images are fitted into `image_size` with their aspect kept, and padded at their right or bottom.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from kit.boxes import targets
from kit.boxes.scenes import draw
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
from kit.formats.text import unreadable
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Fault


class DigitScenes(ImageDataModule):
    """Real handwritten digits (see `kit.data.digits`) at random places on textured ground, drawn at the start.

    Each part is drawn from digits of its own. The test part is the same whatever the run's seed, so that runs can be
    compared; which digits go to `val` follows `seed`.

    Args:
        scenes: for training; a tenth as many for validation, a fifth for the test.
        image_size: height and width.
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
        own, share, seed = {"train": (rest[train], 1, 0), "val": (rest[val], 10, 1), "test": (test, 5, 2)}[split]
        count = max(1, self.scenes // share)
        require_drawable(count, *self.image_size)
        pixels, drawn = draw(images[own], labels[own], count, self.image_size, seed)
        return Tensors(drawn, pixels)

    sample, collate = staticmethod(targets.sample), staticmethod(targets.collate)
    strata, count_classes, count_most = targets.strata, targets.count_classes, targets.count_most


class Annotated(ImageDataModule):
    """Images with annotation files. Subclasses set `parts`, what there is of each split, and define `read(split)`.

    A subclass may set `crowds` to "objects"; crowds are then used like all other objects.

    Args:
        root: the folder.
        image_size: height and width that every image is fitted into.
        group: a regular expression whose first group, searched in a file's name, says what must stay together when
            the split is made here: `^(patient\\d+)_`.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

    keep_aspect = True
    crowds: Crowds = "ignore"
    parts: dict[str, Any]
    place = staticmethod(data_folder)

    def __init__(
        self,
        root: str = "data",
        image_size: tuple[int, int] = (320, 320),
        group: str | None = None,
        channels: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.group, self.channels = self.place(root), tuple(image_size), group, channels
        self.readings: dict[str, Reading] = {}
        self._prepared: dict[str, BoxSplit] = {}

    def read(self, split: str) -> Reading:
        """What the annotations of a part say."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its annotations are read")

    def reading(self, split: str) -> Reading | None:
        if split in self.parts and split not in self.readings:
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
        first = self.reading(next(iter(self.parts)))
        return self.channels or find_channels([annotation.image for annotation in first.annotations])

    def part(self, split: str) -> BoxSplit | None:
        """As it is, whatever is wrong with it."""
        reading = self.reading(split)
        if reading is not None and split not in self._prepared:
            self._prepared[split] = clean_split(reading, self._class_names_or_all())
        return self._prepared.get(split)

    def _class_names_or_all(self) -> list[str]:
        try:
            return self.class_names
        except UserError:  # what there is for training cannot be read, or is empty
            return [name.strip() for reading in self.readings.values() for name in reading.class_names]

    def load_split(self, split: str) -> Samples | None:
        """
        Raises:
            UserError: too much of it cannot be used. What had to be left out or mended is said in one line.
        """
        part = self.part(split)
        if part is None:
            return None
        self.class_names  # noqa: B018  without them nothing can be used
        part.stop_if_unusable(split, self.root)
        if part.faults:
            rank_zero_warn(f"{split}: {part.count_faults()}; python -m project.check names the files")
        if crowds := part.crowds():
            rank_zero_warn(f"{split}: crowds are neither trained on nor measured: {list_crowds(crowds)}")
        return self._files(part)

    def splits(self) -> dict[str, Samples]:
        """Return the splits without stopping at a broken image or box, so that `check` sees all others, too."""
        parts: dict[str, BoxSplit | None] = {}
        for split in ("train", "val", "test"):
            try:
                parts[split] = self.part(split)
            except BrokenFiles:  # `annotation_faults` tells of it
                continue
        return {split: self._files(part) for split, part in parts.items() if part is not None}

    def _files(self, part: BoxSplit) -> Files:
        groups = groups_by_name(part.paths, self.group)
        return Files(part.targets, part.paths, self.in_channels, self.image_size, self.keep_aspect, groups=groups)

    def annotation_faults(self) -> Iterable[Fault]:
        return self.faults_of(self.parts)

    def faults_of(self, splits: Iterable[str]) -> Iterator[Fault]:
        """Images that cannot be read are left to the check of images."""
        for split in splits:
            part = self.part(split)
            yield from part.faults
            yield from crowd_faults(part.crowds(), self.root)
            if reason := part.why_unusable(split):
                yield Fault("unusable", "error", str(self.root), None, f"training would stop here: {reason}")

    sample, collate = staticmethod(targets.sample), staticmethod(targets.collate)
    strata, count_classes, count_most = targets.strata, targets.count_classes, targets.count_most
    hashable_target = staticmethod(targets.hashable_target)


class Coco(Annotated):
    """COCO's JSON, as the data set itself has it, and Roboflow, CVAT and Label Studio export it.

    Args:
        train, val, test: JSON files below `root`, where they are not found by their names.
        images: the folder below `root` that the JSON's file names start from, where it is not found.
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
        self.parts = find(self.root, {"train": train, "val": val, "test": test})

    def read(self, split: str) -> Reading:
        return coco.read(self.parts[split], self.root, self.images)

    def annotation_faults(self) -> Iterable[Fault]:
        whole = {}
        for split, file in self.parts.items():
            try:
                whole[split] = self.reading(split)
            except UserError as error:
                yield unreadable(file, error)
        yield from self.faults_of(whole)
        images = {annotation.image for reading in whole.values() for annotation in reading.annotations}
        for image in unlisted_images(images):
            yield missing_annotation(image, "no JSON file names it, and it is left out")


class Voc(Annotated):
    """Pascal VOC's XML files, as the data set itself has them, and Roboflow, CVAT and labelImg write them.

    Corners are taken as they are written, whether they count pixels from 0 or from 1. An image without an XML file is
    left out.

    Args:
        crowds: `ignore` makes `difficult` objects regions to ignore; `objects` uses them like all others.
    """

    def __init__(self, crowds: Crowds = "ignore", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crowds = crowds
        self.parts = find_pairs(self.root, XML_FILES)

    def read(self, split: str) -> Reading:
        return voc.read(self.parts[split])


class Yolo(Annotated):
    """YOLO's text files, with `data.yaml`, `obj.data` or folders: of Ultralytics, Roboflow, CVAT and labelImg.

    An image without a text file counts as one without objects; `root` may be the YAML file.

    Args:
        names: the classes by their numbers, where no file lists them.
    """

    def __init__(self, names: list[str] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layout = yolo.find(self.root, names)
        self.parts = self.layout.splits

    @staticmethod
    def place(root: str) -> Path:
        return Path(root) if Path(root).is_file() else data_folder(root)

    def read(self, split: str) -> Reading:
        return yolo.read(self.layout.splits[split], self.layout)

    def find_class_names(self) -> list[str]:
        return list(dict.fromkeys(name.strip() for name in self.layout.class_names))
