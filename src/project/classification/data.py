"""Data modules of images with labels.

The target of a sample is the index of its class in `class_names`. If images have several labels, it is Float[K]: 1 for
each label of the image, else 0.

All data modules also take the arguments of `kit.data.ImageDataModule`: batch_size, augment, cache, mean, std, ...
"""

from collections.abc import Iterable
from functools import cached_property
from typing import Any

import torch
from torch.nn import functional as F

from kit.boxes.scenes import digit_scenes
from kit.data import Files, ImageDataModule, Samples, Tensors
from kit.data.decode import Channels, ImageSize, find_channels
from kit.data.digits import DigitsDataModule
from kit.data.image_size import LABEL_SIZE_RULE, choose_image_size, read_image_sizes
from kit.data.torchvision_data import TorchvisionDataModule
from kit.formats.class_folders import ClassFolders
from kit.formats.folders import data_folder
from kit.formats.label_table import LabelTable
from kit.formats.labels import SEPARATOR, Format, open_labels
from kit.ground.errors import UserError
from kit.ground.faults import Fault
from kit.ground.ranges import PositiveInt


class Digits(DigitsDataModule):
    """1,797 handwritten digits of 8x8 pixels, see `kit.data.digits`."""


class DigitScenes(ImageDataModule):
    """Scenes of one to six handwritten digits on a textured background. The labels of a scene are its digits.

    The scenes are generated at the start: see `kit.boxes.scenes`. No image of a digit is in two splits. The test split
    does not depend on `seed`, so that runs can be compared.

    Args:
        scenes: the number of training scenes. Validation has a tenth as many, and test a fifth.
        image_size: the height and width of a scene.
    """

    several_labels = True
    format_name = "generated scenes of digits"

    def __init__(self, scenes: PositiveInt = 3000, image_size: ImageSize = (48, 64), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scenes, self.image_size = scenes, tuple(image_size)

    def find_class_names(self) -> list[str]:
        return [str(digit) for digit in range(10)]

    def find_in_channels(self) -> int:
        return 3

    def load_split(self, split: str) -> Samples:
        self.refuse_other_classes(self.find_class_names())  # a loaded model may have other classes
        images, box_targets = digit_scenes(split, self.scenes, self.image_size, self.seed)
        targets = [F.one_hot(target["labels"] - 1, 10).amax(0).float() for target in box_targets]
        return Tensors(torch.stack(targets), images)


class ImageFolder(ImageDataModule):
    """Your own images, with their labels in one of two formats.

    folders: a folder for each class, `root/train|val|test/CLASS/*.jpg`, or `root/CLASS/*.jpg` without splits.
    table: a file with the columns `path` and `label`, and optionally `split` (train, val or test) and `group`. The
        paths are relative to `root`. The separator is a comma, a semicolon or a tab. If a validation part is split off
        from train, each `group` stays in one part.

    Args:
        root: the folder of the data set.
        format: `folders` or `table`; by default, the format is recognised from the files in `root`.
        image_size: the height and width to which every image is resized. By default, this is the size that the net was
            pretrained with. Without pretrained weights, it is chosen from the sizes of the training images: see
            `kit.data.image_size`.
        file: the path of the table, relative to `root`; by default, it is `labels.csv`, or the only table in `root`.
        label_separator: the text that separates the labels in a cell of the table, such as `;` in `cat;dog`. If it is
            None, each cell is one label.
        several_labels: whether an image may have any number of labels; by default, True if a training image has
            several.
        group: for folders, a regular expression such as `^(patient\\d+)_`. The text that its first capture
            group matches in a file name is the group of the image.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA). By default, it is 3 if any of up to 63 sampled image files is stored in
            colour, else 1.
    """

    takes_pretraining_size = True
    # these options are not kept if `test` gets another root
    root_options = ("format", "file", "group")

    def __init__(
        self,
        root: str = "data",
        format: Format | None = None,
        image_size: ImageSize | None = None,
        file: str | None = None,
        label_separator: str | None = SEPARATOR,
        several_labels: bool | None = None,
        group: str | None = None,
        channels: Channels | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.root, self.image_size, self.channels = data_folder(root), image_size and tuple(image_size), channels
        self.reader: ClassFolders | LabelTable = open_labels(self.root, format, file, label_separator, group)
        is_table = isinstance(self.reader, LabelTable)
        self.format_name = f"the table {self.reader.source.name}" if is_table else "class folders"
        self.given_several_labels = several_labels

    @cached_property
    def several_labels(self) -> bool:
        return self.reader.has_several_labels() if self.given_several_labels is None else self.given_several_labels

    def find_class_names(self) -> list[str]:
        names = self.reader.names(self.several_labels)
        if len(names) < 2:
            problem = f"'{names[0]}' is the only class" if names else "no class folders"
            raise UserError(f"{self.reader.source}: {problem}, but there must be at least two")
        return names

    def find_in_channels(self) -> int:
        return self.channels or find_channels(self.reader.examples())

    def find_image_size(self) -> tuple[int, int]:
        return choose_image_size(read_image_sizes(self.reader.examples()), [], LABEL_SIZE_RULE)

    def load_split(self, split: str) -> Samples | None:
        labelled = self.reader.read(split, self.class_names, self.several_labels)
        if labelled is None:
            return None
        paths, targets, groups = labelled
        return Files(targets, paths, self.in_channels, self.input_size, groups=groups)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.given_several_labels is None:
            self.several_labels = bool(state.get("several_labels"))
        super().load_state_dict(state)

    def annotation_faults(self) -> Iterable[Fault]:
        # Load the splits, and yield all of their faults instead of raising an error for the first one.
        yield from self.reader.report_fault.collect(self.load_splits)
        yield from self.reader.unused()


class TorchvisionDataset(TorchvisionDataModule):
    """A classification data set of torchvision. See `kit.data.torchvision_data` for the arguments."""
