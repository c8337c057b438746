"""List the images of all splits, for any task."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import NamedTuple

from kit.data import ImageDataModule, Samples


class CheckedImage(NamedTuple):
    """One image in one split.

    name: the path of the file, or a description such as `sample 7 of train` if the image is not a file.
    label: the class number, or None if the task does not give each image exactly one class.
    sample_index: the index in the samples of the split.
    hashable_target: returns a value that is equal for equal targets: see `ImageDataModule.hashable_target`.
    """

    name: str
    split: str
    label: int | None
    group: str | None
    sample_index: int = 0
    hashable_target: Callable[[], Hashable] = NoneType  # returns None: the target cannot be compared

    @property
    def path(self) -> Path:
        return Path(self.name)

    def __str__(self) -> str:
        return self.name


class ImageList(NamedTuple):
    """The images of all splits, in the order train, val, test.

    files: the images that are files.
    in_memory: the other images.
    samples: the samples of each split.
    """

    files: list[CheckedImage]
    in_memory: list[CheckedImage]
    samples: dict[str, Samples]
    class_names: list[str]

    @classmethod
    def of(cls, datamodule: ImageDataModule) -> "ImageList":
        """List the images of a data module.

        Raises:
            UserError: the data module cannot load its splits.
        """
        images = cls([], [], datamodule.load_splits(), datamodule.class_names)
        for split, samples in images.samples.items():
            labels = samples.targets.tolist() if samples.has_class_numbers else [None] * len(samples)
            groups: Sequence[str | None] = samples.groups or [None] * len(samples)
            for i, (label, group) in enumerate(zip(labels, groups, strict=True)):
                file = samples.file(i)
                target = partial(datamodule.hashable_target, samples, i)
                image = CheckedImage(file or f"sample {i} of {split}", split, label, group, i, target)
                (images.files if file else images.in_memory).append(image)
        return images
