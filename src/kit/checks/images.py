"""The images of all splits in one list, whatever the task."""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from types import NoneType
from typing import NamedTuple

from torch import Tensor

from kit.data import ImageDataModule, Samples


class Image(NamedTuple):
    """One image in one split.

    label: its class's number; None where an image has more than one class, or none.
    answer: gives what can be compared of its target then, see `ImageDataModule.comparable`.
    """

    name: str
    split: str
    label: int | None
    group: str | None
    answer: Callable[[], Hashable] = NoneType

    @property
    def path(self) -> Path:
        return Path(self.name)

    def __str__(self) -> str:
        return self.name


class Images(NamedTuple):
    """files: those of all splits, in the order train, val, test; empty where images come from no files."""

    files: list[Image]
    samples: dict[str, Samples]
    class_names: list[str]

    @classmethod
    def of(cls, datamodule: ImageDataModule) -> "Images":
        """
        Raises:
            UserError: the data module cannot make its samples.
        """
        samples = datamodule.division()
        files: list[Image] = []
        for split, part in samples.items():
            paths: Sequence[Path] | None = getattr(part, "paths", None)
            if paths is not None:
                labels: Sequence[int | None] = labels_of(part) or [None] * len(part)
                groups: Sequence[str | None] = part.groups or [None] * len(part)
                for i, (path, label, group) in enumerate(zip(paths, labels, groups, strict=True)):
                    answer = partial(datamodule.comparable, part, i) if label is None else NoneType
                    files.append(Image(str(path), split, label, group, answer))
        return cls(files, samples, datamodule.class_names)


def labels_of(samples: Samples) -> list[int] | None:
    """The class of each sample where it has exactly one: a task whose targets are Long[N]."""
    targets = samples.targets
    single = isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()
    return targets.tolist() if single else None
