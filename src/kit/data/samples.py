"""The images and targets of a split, and batches of them."""

import hashlib
import math
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from torch import Tensor

from kit.data.decode import decode, verify
from kit.data.levels import Levels

Item = TypeVar("Item")


class Batch(NamedTuple):
    """A batch of samples.

    images: uint8 [B C H W] from the loader; normalised Float[B C H W] on the device.
    targets: the targets, whose type depends on the task; Long[B] in classification.
    keys: Long[B], the samples' indices in their split. `datamodule.files(keys, split)` returns their files.
    """

    images: Tensor
    targets: Any
    keys: Tensor


@dataclass
class Samples:
    """The samples of a split. Subclasses define how images are read.

    targets: an entry for each sample, which the data module's `sample` converts; Long[N] in classification.
    groups: the name of each sample's group (a patient, a video). Splitting keeps a group together.
    FIELDS_OF_SAMPLES: the names of the fields that have an entry for each sample.
    """

    targets: Any
    groups: Sequence[str] | None = field(default=None, kw_only=True)
    FIELDS_OF_SAMPLES: ClassVar[tuple[str, ...]] = ("targets", "groups")

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def has_class_numbers(self) -> bool:
        """Whether every sample has a class number. The targets are then Long[N]."""
        return isinstance(self.targets, Tensor) and self.targets.ndim == 1 and not self.targets.is_floating_point()

    def read(self, index: int) -> Tensor:
        """Return the image of a sample, uint8 [C H W]."""
        raise NotImplementedError(f"{type(self).__name__} does not define `read`")

    def fetch(self, indices: Sequence[int]) -> Sequence[Tensor]:
        """Return several images, each uint8 [C H W], which the caller may change."""
        return [self.read(index) for index in indices]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The channels, height and width of all images."""
        channels, height, width = self.read(0).shape
        return channels, height, width

    @property
    def one_size(self) -> bool:
        """Whether all images have the same size. If not, evaluation batches contain one image each."""
        return True

    def file(self, index: int) -> str | None:
        """Return the path of a sample's file, or None if the sample has no file."""
        return None

    def fingerprint(self) -> dict[str, int]:
        """Return the number of samples, and checksums that change if the data change.

        `names` is a checksum of each file's name and the name of its folder. It ignores the rest of the path, so that
        the data set may be moved. `sizes` is a checksum of the sizes of fewer than 2,000 files, evenly spaced. `labels`
        is a checksum of the targets if they are a tensor. If the targets are another object, `annotations` is a
        checksum of its attributes that are tensors; it is left out if there are none.
        """
        names = [self.file(index) or "" for index in range(len(self))]
        paths = [Path(name) for name in names[:: max(1, len(names) // 1000)] if name]
        sizes = [path.stat().st_size for path in paths if path.is_file()]
        labels = self.targets.numpy().tobytes() if isinstance(self.targets, Tensor) else b""
        parts = {"names": ["/".join(Path(name).parts[-2:]) for name in names], "sizes": sizes}
        sums = {key: zlib.crc32(repr(value).encode()) for key, value in parts.items()}
        sums["labels"] = zlib.crc32(labels)
        attributes = {} if isinstance(self.targets, Tensor) else getattr(self.targets, "__dict__", {})
        if tensors := [value for value in attributes.values() if isinstance(value, Tensor)]:
            sums["annotations"] = zlib.crc32(b"".join(tensor.numpy().tobytes() for tensor in tensors))
        return {"samples": len(self), **sums}

    def subset(self, indices: Tensor) -> Self:
        """Return the samples at the given indices, Long[N]."""
        names = [name for name in self.FIELDS_OF_SAMPLES if vars(self)[name] is not None]
        return replace(self, **{name: select(vars(self)[name], indices) for name in names})


@dataclass
class Tensors(Samples):
    """Samples whose images are in memory or in a memory-mapped file, uint8 [N C H W]."""

    images: Tensor
    paths: Sequence[Path] | None = None
    FIELDS_OF_SAMPLES: ClassVar = (*Samples.FIELDS_OF_SAMPLES, "images", "paths")

    def read(self, index: int) -> Tensor:
        return self.images[index]

    def fetch(self, indices: Sequence[int]) -> Sequence[Tensor]:
        return self.images[list(indices)].unbind()

    def file(self, index: int) -> str | None:
        return str(self.paths[index]) if self.paths is not None else None


@dataclass
class Files(Samples):
    """Samples whose images are files, which `read` decodes.

    size: the height and width that images are resized to.
    keep_aspect: fit each image into `size` and pad its right or bottom, instead of stretching it.
    levels: for images with more than 8 bits, the value that becomes black and the value that becomes white.
    """

    paths: Sequence[Path]
    channels: int
    size: tuple[int, int]
    keep_aspect: bool = False
    levels: Levels | None = field(default=None, kw_only=True)
    FIELDS_OF_SAMPLES: ClassVar = (*Samples.FIELDS_OF_SAMPLES, "paths")

    def read(self, index: int) -> Tensor:
        return decode(self.paths[index], self.channels, self.size, self.keep_aspect, self.levels)

    def verify(self, index: int) -> None:
        """Raise an error if `read` cannot read a sample. This is faster than `read`.

        Raises:
            BrokenFiles: a file of the sample cannot be decoded.
            UnreachableFiles: the system cannot read a file of the sample.
            UserError: the files can be decoded, but the sample is invalid. This ends the run.
        """
        verify(self.paths[index])

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels, *self.size

    @property
    def sources(self) -> Sequence[Path]:
        """All files that the pixels depend on."""
        return self.paths

    @property
    def settings(self) -> tuple[Any, ...]:
        """All values that the pixels depend on, except `sources` and `shape`."""
        return self.keep_aspect, self.levels

    def file(self, index: int) -> str:
        return str(self.paths[index])

    def files_digest(self, *settings: Any) -> str:
        """Return a hash of the settings and of the files' paths, sizes in bytes and modification times."""
        digest = hashlib.sha256(repr((type(self).__qualname__, *settings)).encode())
        for path in self.sources:
            line = f"{path.absolute()}\n"
            with suppress(OSError):  # reading reports the file later
                stat = path.stat()
                line += f"{stat.st_size}|{stat.st_mtime_ns}\n"
            digest.update(line.encode(errors="surrogateescape"))  # file names need not be UTF-8
        return digest.hexdigest()[:32]


def evenly_spaced_part(items: Sequence[Item], max_count: int) -> Sequence[Item]:
    """Return at most `max_count` items of a sequence, at equal distances, beginning with the first."""
    return items[:: max(1, math.ceil(len(items) / max_count))]


def select(values: Any, indices: Tensor) -> Any:
    """Return the values at `indices`, Long[N]: a list for a list, tuple or range, else `values[indices]`."""
    is_tensor_like = not isinstance(values, (list, tuple, range))
    return values[indices] if is_tensor_like else [values[i] for i in indices.tolist()]
