"""List the images of all splits, for any task."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import NamedTuple

from kit.data import ImageDataModule, Samples


class ListedImage(NamedTuple):
    """One image in one split.

    name: the path, or a description if the image is not a file.
    label: the class number, or None if an image does not have exactly one class.
    hashable_target: returns a value by which targets can be compared, if there is no label: see `ImageDataModule`.
    """

    name: str
    split: str
    label: int | None
    group: str | None
    hashable_target: Callable[[], Hashable] = NoneType

    @property
    def path(self) -> Path:
        return Path(self.name)

    def __str__(self) -> str:
        return self.name


class ImageList(NamedTuple):
    """The images of all splits.

    files: the image files in the order train, val, test; empty if the images are not files.
    samples: the samples of each split.
    """

    files: list[ListedImage]
    samples: dict[str, Samples]
    class_names: list[str]

    @classmethod
    def of(cls, datamodule: ImageDataModule) -> "ImageList":
        """List the images of a data module.

        Raises:
            UserError: the data module cannot read its splits.
        """
        samples = datamodule.splits()
        files: list[ListedImage] = []
        for split, part in samples.items():
            paths: Sequence[Path] | None = getattr(part, "paths", None)
            if paths is not None:
                labels: Sequence[int | None] = single_labels(part) or [None] * len(part)
                groups: Sequence[str | None] = part.groups or [None] * len(part)
                for i, (path, label, group) in enumerate(zip(paths, labels, groups, strict=True)):
                    target = partial(datamodule.hashable_target, part, i) if label is None else NoneType
                    files.append(ListedImage(str(path), split, label, group, target))
        return cls(files, samples, datamodule.class_names)


def single_labels(samples: Samples) -> list[int] | None:
    """Return the class of each sample if each has exactly one, so that targets are Long[N]; else None."""
    return samples.targets.tolist() if samples.has_class_numbers else None
