"""Samples: images and targets that can be counted, split and fetched; and the batches made of them."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from kit.data.decode import decode, is_truncated, resize, to_tensor
from kit.data.levels import Levels


class Batch(NamedTuple):
    """What a task gets.

    images: Float[B C H W] on the device, uint8 before that.
    targets: the task's own; Long[B] in classification.
    keys: Long[B], each sample's place in its split; `datamodule.files(keys)` names the files.
    """

    images: Tensor
    targets: Any
    keys: Tensor


@dataclass
class Samples:
    """The samples of a split: pixels, which subclasses read from somewhere, and what is known about each.

    targets: one a sample, as the data module's `sample` takes it; Long[N] in classification.
    groups: one name a sample, where samples belong together (a patient, a video) and must not be split apart.
    """

    targets: Any
    groups: Sequence[str] | None = field(default=None, kw_only=True)

    def __len__(self) -> int:
        return len(self.targets)

    def read(self, index: int) -> Tensor:
        """One image, uint8 [C H W]."""
        raise NotImplementedError(f"{type(self).__name__} does not say how an image is read")

    def fetch(self, indices: Sequence[int]) -> Sequence[Tensor]:
        """Several images, each uint8 [C H W], which are the caller's to change."""
        return [self.read(index) for index in indices]

    @property
    def shape(self) -> tuple[int, int, int]:
        """C, H and W of every image."""
        channels, height, width = self.read(0).shape
        return channels, height, width

    @property
    def one_size(self) -> bool:
        """Whether all images have one height and width; if not, evaluation takes them one at a time, unpadded."""
        return True

    def file(self, index: int) -> str | None:
        """Where the sample comes from; None where there is no file."""
        return None

    def fingerprint(self) -> dict[str, int]:
        """How many there are; check sums of their names, of some files' sizes, and of their labels if they are numbers.

        A name is a file's and its folder's, so that data may be moved.
        """
        names = [self.file(index) or "" for index in range(len(self))]
        some = [Path(name) for name in names[:: max(1, len(names) // 1000)] if name]
        sizes = [path.stat().st_size for path in some if path.is_file()]
        labels = self.targets.numpy().tobytes() if isinstance(self.targets, Tensor) else b""
        parts = {"names": ["/".join(Path(name).parts[-2:]) for name in names], "sizes": sizes}
        sums = {key: zlib.crc32(repr(value).encode()) for key, value in parts.items()}
        return {"samples": len(self), **sums, "labels": zlib.crc32(labels)}

    def subset(self, indices: Tensor) -> Self:
        groups = None if self.groups is None else picked(self.groups, indices)
        return replace(self, targets=picked(self.targets, indices), groups=groups, **self._picked(indices))

    def _picked(self, indices: Tensor) -> dict[str, Any]:
        """A subclass's own fields at `indices`."""
        return {}


@dataclass
class Tensors(Samples):
    """Images in memory, or in a memory-mapped file: fetched a batch at a time. images: uint8 [N C H W]."""

    images: Tensor
    paths: Sequence[Path] | None = None

    def read(self, index: int) -> Tensor:
        return self.images[index]

    def fetch(self, indices: Sequence[int]) -> Sequence[Tensor]:
        return self.images[list(indices)].unbind()

    def file(self, index: int) -> str | None:
        return str(self.paths[index]) if self.paths is not None else None

    def _picked(self, indices: Tensor) -> dict[str, Any]:
        paths = None if self.paths is None else picked(self.paths, indices)
        return {"images": self.images[indices], "paths": paths}


@dataclass
class Files(Samples):
    """Image files, decoded when they are asked for.

    size: height and width.
    keep_aspect: the image is fitted into `size` and padded at its right or bottom, instead of stretched.
    levels: the values that become black and white in images of more than 8 bits: see `kit.data.decode.decode`.
    """

    paths: Sequence[Path]
    channels: int
    size: tuple[int, int]
    keep_aspect: bool = False
    levels: Levels | None = field(default=None, kw_only=True)

    def read(self, index: int) -> Tensor:
        return decode(self.paths[index], self.channels, self.size, self.keep_aspect, self.levels)

    def is_truncated(self, index: int) -> bool:
        """Return whether the image is a JPEG that lacks its last bytes: see `kit.data.decode.is_truncated`.

        Raises:
            BrokenFiles: one of the sample's files cannot be decoded.
        """
        return is_truncated(self.paths[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, *self.size

    @property
    def sources(self) -> Sequence[Path]:
        """All files that are read: if one of them changes, so may the pixels."""
        return self.paths

    @property
    def reading(self) -> tuple[Any, ...]:
        """All else, beside the shape, that the pixels depend on."""
        return self.keep_aspect, self.levels

    def file(self, index: int) -> str:
        return str(self.paths[index])

    def _picked(self, indices: Tensor) -> dict[str, Any]:
        return {"paths": picked(self.paths, indices)}


@dataclass
class Indexed(Samples):
    """A dataset of somebody else's, that gives `(PIL image or uint8 tensor, target)` at an index."""

    dataset: Any
    channels: int
    size: tuple[int, int]
    places: Sequence[int] | None = None

    def read(self, index: int) -> Tensor:
        image = self.dataset[index if self.places is None else self.places[index]][0]
        if isinstance(image, Tensor):
            return resize(image, self.size)
        return to_tensor(image, self.channels, self.size)

    def _picked(self, indices: Tensor) -> dict[str, Any]:
        return {"places": [int(i) if self.places is None else self.places[i] for i in indices]}


def picked(values: Any, indices: Tensor) -> Any:
    """Of a tensor or of a list."""
    return values[indices] if isinstance(values, Tensor) else [values[i] for i in indices.tolist()]


class Split(Dataset):
    """Samples as a DataLoader asks for them: a batch of `(index, seed)` at a time, augmented sample by sample.

    v2 transforms draw once for a whole tensor, hence one call a sample; and they draw from torch's generator, which is
    seeded for each sample and put back afterwards: neither the number of workers nor a restart changes a picture.

    Args:
        sample: makes the image and the target that augmentation gets, from a sample's pixels and its entry in
            `samples.targets`.
        collate: makes `Batch.images` and `Batch.targets` of a sequence of each.
    """

    def __init__(
        self,
        samples: Samples,
        augment: Sequence[v2.Transform],
        sample: Callable[[Tensor, Any], tuple[Tensor, Any]],
        collate: Callable[[Sequence[Tensor], Sequence[Any]], tuple[Tensor, Any]],
    ) -> None:
        self.samples, self.sample, self.collate = samples, sample, collate
        self.augment = v2.Compose(augment) if augment else None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, keys: list[tuple[int, int]]) -> Batch:
        wanted = keys or [(0, 0)]  # an empty batch is made of a sample, and has its shape
        indices = [index for index, _ in wanted]
        pixels = self.samples.fetch(indices)
        samples = [self.sample(p, self.samples.targets[i]) for p, i in zip(pixels, indices, strict=True)]
        augment = self.augment
        if augment is not None:
            with torch.random.fork_rng(devices=[]):
                samples = [_seeded(augment, *sample, seed) for sample, (_, seed) in zip(samples, wanted, strict=True)]
        images, targets = self.collate(*zip(*samples, strict=True))
        return Batch(images[: len(keys)], targets[: len(keys)], torch.tensor(indices)[: len(keys)])


def stack(images: Sequence[Tensor]) -> Tensor:
    """[C H W] each to [B C H W], channels last in memory: as files are decoded, and as convolutions want them."""
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def _seeded(augment: v2.Transform, image: Tensor, target: Any, seed: int) -> tuple[Tensor, Any]:
    torch.default_generator.manual_seed(seed)
    if isinstance(target, int):  # a label, which v2 would hand through, at a sixth of its time
        return augment(image), target
    return augment(image, target)
