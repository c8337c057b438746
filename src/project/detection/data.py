"""Where images with boxes come from. For targets see `project.detection.targets`; labels are 1 to K by `class_names`.

Images are fitted into `image_size` with their aspect kept, and padded at their right or bottom.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from project import BrokenFiles, UserError
from project.checks import Fault
from project.detection import targets
from project.detection.formats import Reading, coco, headers, spelled_twice, unreadable, usable, voc, yolo
from project.detection.scenes import draw
from project.pipeline import Files, ImageDataModule, Samples, Tensors
from project.pipeline.coco import find
from project.pipeline.decode import channels_of, decode
from project.pipeline.digits import digits
from project.pipeline.folders import data_folder, groups_by_name
from project.pipeline.splitting import stratified

RAISED = ("annotation-unreadable", "class-unknown")  # nothing sensible can be done with these
LEFT_OUT = ("box-without-area", "box-wrong-unit")  # with these, a box can be left out


class DigitScenes(ImageDataModule):
    """Real handwritten digits (see `project.pipeline.digits`) at random places on textured ground, drawn at the start.

    Each part is drawn from digits of its own. The test part is the same whatever the run's seed, so that runs can be
    compared; which digits go to `val` follows `seed`.

    Args:
        scenes: for training; a tenth as many for validation, a fifth for the test.
        image_size: height and width.
    """

    def __init__(self, scenes: int = 2000, image_size: tuple[int, int] = (64, 96), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scenes, self.image_size = scenes, tuple(image_size)

    def find_class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def find_in_channels(self) -> int:
        return 3

    def given(self, split: str) -> Samples | None:
        images, labels = digits()
        rest, test = stratified(labels, 0.2, seed=0)
        train, val = stratified(labels[rest], 0.1, self.seed)
        own, share, seed = {"train": (rest[train], 1, 0), "val": (rest[val], 10, 1), "test": (test, 5, 2)}[split]
        pixels, drawn = draw(images[own], labels[own], max(1, self.scenes // share), self.image_size, seed)
        return Tensors(drawn, pixels)

    sample, collate = staticmethod(targets.sample), staticmethod(targets.collate)
    strata, count_classes = targets.strata, targets.count_classes


class Annotated(ImageDataModule):
    """Images with annotation files. Subclasses say `parts`, what there is by split, and `read(split)`.

    Args:
        root: the folder.
        image_size: height and width that every image is fitted into.
        group: a regular expression whose first group, searched in a file's name, says what must stay together when
            the split is made here: `^(patient\\d+)_`.
        channels: 1, 3 or 4; by default 1 if all images are grey, else 3.
    """

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

    def read(self, split: str) -> Reading:
        """What the annotations of a part say."""
        raise NotImplementedError(f"{type(self).__name__} does not say how its annotations are read")

    def reading(self, split: str) -> Reading | None:
        if split in self.parts and split not in self.readings:
            self.readings[split] = self.read(split)
        return self.readings.get(split)

    def find_class_names(self) -> list[str]:
        train = self.reading("train")
        names = list(dict.fromkeys(name.strip() for name in train.class_names)) if train else []
        if not names:
            raise UserError(f"{self.root}: nothing is annotated for training")
        return names

    def find_in_channels(self) -> int:
        return self.channels or channels_of(self._given("train").paths)

    def given(self, split: str) -> Samples | None:
        return _files(self, split, self.reading(split))

    def annotation_faults(self) -> Iterable[Fault]:
        return _faults(self, [self.reading(split) for split in self.parts])

    sample, collate = staticmethod(targets.sample), staticmethod(targets.collate)
    strata, count_classes = targets.strata, targets.count_classes
    comparable = staticmethod(targets.comparable)


class Coco(Annotated):
    """COCO's JSON, as the data set itself has it, and Roboflow, CVAT and Label Studio export it.

    Args:
        train, val, test: JSON files below `root`, where they are not found by their names.
        images: the folder below `root` that the JSON's file names start from, where it is not found.
    """

    def __init__(
        self,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        images: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.images = images
        self.parts = find(self.root, {"train": train, "val": val, "test": test})

    def read(self, split: str) -> Reading:
        return coco.read(self.parts[split], self.root, self.images)

    def annotation_faults(self) -> Iterable[Fault]:
        faults = []
        for split, file in self.parts.items():
            try:
                self.reading(split)
            except UserError as error:
                place, _, message = str(error).removeprefix(f"{file}:").partition(" ")
                line = place.rstrip(":")
                faults.append(unreadable(file, int(line) if line.isdigit() else None, message))
        readings = list(self.readings.values())
        used = {annotation.image for reading in readings for annotation in reading.annotations}
        return [*faults, *_faults(self, readings), *coco.left_out(used)]


class Voc(Annotated):
    """Pascal VOC's XML files, as the data set itself has them, and Roboflow, CVAT and labelImg write them.

    Corners are taken as they are written, whether they count pixels from 0 or from 1; `difficult` objects are regions
    to ignore. An image without an XML file is left out.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.parts = voc.find(self.root)

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
        self.parts = self.layout.parts

    @staticmethod
    def place(root: str) -> Path:
        return Path(root) if Path(root).is_file() else data_folder(root)

    def read(self, split: str) -> Reading:
        return yolo.read(self.layout.parts[split], self.layout)

    def find_class_names(self) -> list[str]:
        return [name.strip() for name in self.layout.class_names]


def _files(data: Annotated, split: str, reading: Reading | None) -> Files | None:
    """The samples of a part; what had to be left out or mended is counted and said in one line.

    Raises:
        UserError: nothing sensible can be done with an annotation, or hardly any box is left.
        BrokenFiles: images that cannot be read.
    """
    if reading is None:
        return None
    paths = [annotation.image for annotation in reading.annotations]
    found, faults = [], list(reading.faults)
    sizes = headers(paths)
    _raise_unreadable([path for path, header in zip(paths, sizes, strict=True) if header is None], len(paths))
    labels = _labels(data.class_names)
    for annotation, header in zip(reading.annotations, sizes, strict=True):
        target, wrong = usable(annotation, header, labels)
        found.append(target)
        faults += wrong
    for fault in faults:
        if fault.kind in RAISED:
            line = f":{fault.line}" if fault.line else ""
            raise UserError(f"{fault.file}{line}: {fault.message}")
    kinds = Counter(fault.kind for fault in faults)
    said = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    left = sum(len(target["boxes"]) for target in found)
    if not found or left < sum(kinds[kind] for kind in LEFT_OUT):
        raise UserError(f"{data.root}: most of {split} cannot be used ({said or 'no images'})")
    if said:
        rank_zero_warn(f"{split}: {said}; python -m project.check names the files")
    channels = data.channels or (channels_of(paths) if split == "train" else data.in_channels)
    groups = groups_by_name(paths, data.group)
    return Files(found, paths, channels, data.image_size, keep_aspect=True, groups=groups)


def _raise_unreadable(images: Sequence[Path], of: int) -> None:
    """In the words of whoever would read their pixels."""
    said = []
    for path in images[:10]:
        try:
            decode(path, 3, None)
            said.append(f"{path}: its header cannot be read")
        except BrokenFiles as error:
            said.append(str(error))
    if said:
        listed = "\n  ".join(said)
        raise BrokenFiles(f"{len(images)} of {of} images cannot be read; repair or remove them:\n  {listed}")


def _faults(data: Annotated, readings: Sequence[Reading]) -> list[Fault]:
    """Of all parts. Images that cannot be read are left to the check of images."""
    try:
        names = data.class_names
    except UserError:  # training cannot be read, or is empty
        names = [name.strip() for reading in readings for name in reading.class_names]
    labels = _labels(names)
    faults: list[Fault] = []
    for reading in readings:
        faults += reading.faults
        sizes = headers([annotation.image for annotation in reading.annotations])
        for annotation, header in zip(reading.annotations, sizes, strict=True):
            if header is not None:
                faults += usable(annotation, header, labels)[1]
    return faults + spelled_twice(readings, data.root)


def _labels(class_names: Sequence[str]) -> dict[str, int]:
    """1 to K; 0 is the background."""
    return {name: label for label, name in reversed(list(enumerate(class_names, 1)))}
