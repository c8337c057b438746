"""Stack images with their masks as an extra channel, so that both are decoded, cached and augmented together."""

import hashlib
import math
import zlib
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors

from kit.data import Files, Samples
from kit.data.augment import IGNORED
from kit.data.decode import UPRIGHT, decode_with_orientation, fitted_size, pad, read_upright_size, verify
from kit.data.loading import stack
from kit.data.samples import evenly_spaced_part
from kit.formats.text import describe_size
from kit.ground.errors import BrokenFiles, UserError
from kit.ground.faults import Severity
from kit.ground.threads import map_in_threads

UNKNOWN = 254  # the class number of pixels that belong to no class
MAX_CLASSES = 254
# The largest relative difference between the aspect ratios of a mask and its image, whose sizes may be rounded.
ASPECT_TOLERANCE = 0.02
COMPARED_FILES = 20  # the largest number of files of masks whose contents a resumed run compares
COUNTED_MASKS = 200  # the largest number of masks, evenly spaced, whose pixels are counted: see `count_pixels`
Problem = tuple[str, Severity, str]  # the kind, the severity and the message of a fault
# A mask with one of these kinds of problems is not used.
STOPPING_KINDS = ("annotation-unreadable", "mask-id-unknown", "mask-colour-unknown", "mask-palette")


class Reader(Protocol):
    """An object that reads the mask of a sample, given the sample's entry in `targets`.

    Its `repr` must contain all settings, since it is a part of the name of a cache of masks.
    """

    def read_with_problems(self, target: Any) -> tuple[np.ndarray, list[Problem]]:
        """Return class numbers, uint8 [h w], of any height and width, and the problems of the mask.

        Pixels of no class are `UNKNOWN`. Shapes that cannot be drawn are left out. The image's EXIF orientation is not
        applied.

        Raises:
            BrokenFiles: nothing in the mask can be read.
        """

    def files(self, targets: Sequence[Any]) -> list[Path]:
        """Return the files that the masks of these targets are read from."""

    def read(self, target: Any) -> np.ndarray:
        """Return class numbers as `read_with_problems` does, all of them known.

        Raises:
            BrokenFiles: the mask cannot be read, or a shape cannot be drawn.
            UserError: a pixel value belongs to no class.
        """
        mask, problems = self.read_with_problems(target)
        for kind, _, message in problems:
            if kind in STOPPING_KINDS:
                error = BrokenFiles if kind == "annotation-unreadable" else UserError
                raise error(f"{self.files([target])[0]}: {message}")
        return mask


@dataclass
class MaskFiles(Files):
    """Images and their masks. A sample is uint8 [C+1 H W], with the mask as its last channel.

    size: height and width; None keeps the size of each image.
    reader: reads masks from `targets`.
    """

    size: tuple[int, int] | None
    reader: Reader = field(kw_only=True)

    def read(self, index: int) -> Tensor:
        path, options = self.paths[index], (self.channels, self.size, self.keep_aspect, self.levels)
        pixels, upright, orientation = decode_with_orientation(path, *options)
        mask = self._upright_mask(index, upright, orientation)
        size = fitted_size(upright, self.size) if self.size and self.keep_aspect else self.size or upright
        # "nearest" would shift the mask by half a pixel.
        plane = F.interpolate(torch.from_numpy(mask)[None, None], size, mode="nearest-exact")[0, 0]
        plane = pad(plane, pixels.shape[1:], IGNORED)
        return torch.cat([pixels.permute(1, 2, 0), plane[..., None]], 2).permute(2, 0, 1)

    def verify(self, index: int) -> None:
        self._upright_mask(index, *verify(self.paths[index]))

    def _upright_mask(self, index: int, upright: tuple[int, int], orientation: int) -> np.ndarray:
        """Return the upright mask of a sample, uint8 [h w].

        Args:
            upright: the upright image's height and width.
            orientation: the image's EXIF orientation.

        Raises:
            BrokenFiles, UserError: see `Reader.read`.
            UserError: the aspect ratios of mask and image differ.
        """
        mask = turn_mask_upright(self.reader.read(self.targets[index]), upright, orientation)
        if has_other_aspect(mask, upright):
            sizes = f"{describe_size(mask.shape)}, the image {describe_size(upright)}"
            raise UserError(f"{self.paths[index]}: its mask is {sizes}")
        return mask

    @property
    def shape(self) -> tuple[int, int, int]:
        if self.size is None:
            raise UserError("a cache needs images of one size; give --data.image_size '[H, W]', or --data.cache none")
        return self.channels + 1, *self.size

    @property
    def one_size(self) -> bool:
        return self.size is not None

    @property
    def sources(self) -> Sequence[Path]:
        return [*self.paths, *self.reader.files(self.targets)]

    @property
    def settings(self) -> tuple[Any, ...]:
        return *super().settings, repr(self.reader)

    def fingerprint(self) -> dict[str, int]:
        """Return `Samples.fingerprint`, and `annotations`, which changes if the files of the masks change.

        `annotations` is a checksum of the sizes of all these files, and of the contents of up to `COMPARED_FILES`.
        """
        files = [file for file in self.reader.files(self.targets) if file.is_file()]
        checksum = zlib.crc32(repr([file.stat().st_size for file in files]).encode())
        for file in evenly_spaced_part(files, COMPARED_FILES):
            checksum = zlib.crc32(file.read_bytes(), checksum)
        return {**super().fingerprint(), "annotations": checksum}


def turn_mask_upright(mask: np.ndarray, upright: tuple[int, int], orientation: int) -> np.ndarray:
    """Turn a mask upright if EXIF swaps its image's height and width, and the mask has the image's stored size.

    Args:
        upright: the upright image's height and width.
        orientation: the image's EXIF orientation.
    """
    stored = stored_size(upright, orientation)
    is_stored = mask.shape == stored and stored != upright
    return np.array(Image.fromarray(mask).transpose(UPRIGHT[orientation])) if is_stored else mask


def stored_size(upright: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Return the height and width that an image had before EXIF turned it upright."""
    return upright[::-1] if orientation > 4 else upright


def has_other_aspect(mask: np.ndarray, size: tuple[int, int]) -> bool:
    """Return whether the aspect ratios of a mask and of a height and width differ by more than `ASPECT_TOLERANCE`."""
    return abs(mask.shape[0] * size[1] / (mask.shape[1] * size[0]) - 1) > ASPECT_TOLERANCE


def image_and_mask(pixels: Tensor, target: Any) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """Split uint8 [C+1 H W] into an image, uint8 [C H W], and a mask, uint8 [H W]. See `ImageDataModule.sample`."""
    return tv_tensors.Image(pixels[:-1]), tv_tensors.Mask(pixels[-1])


def collate_masks(images: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return a batch's images, uint8 [B C H W], and masks, Long[B H W]. See `ImageDataModule.collate`.

    Smaller images are padded at their right and bottom with grey, and smaller masks with 255.
    """
    size = [max(mask.shape[side] for mask in masks) for side in (0, 1)]
    padded_masks = [pad(mask.as_subclass(Tensor), size, IGNORED) for mask in masks]
    return stack([pad(image.as_subclass(Tensor), size) for image in images]), torch.stack(padded_masks).long()


def hashable_target(samples: MaskFiles, index: int) -> Hashable:
    """Return the upright mask's shape and hash, or None if it cannot be read. See `ImageDataModule.hashable_target`."""
    with suppress(UserError):
        if header := read_upright_size(samples.paths[index]):
            mask = turn_mask_upright(samples.reader.read(samples.targets[index]), *header)
            return mask.shape, hashlib.sha1(mask.tobytes()).digest()
    return None


def count_pixels(samples: Samples, num_classes: int) -> list[int]:
    """Return the number of pixels of each class in at most `COUNTED_MASKS` masks.

    If a class is in none of these masks, all masks are counted. If some pixels belong to no class or a mask cannot be
    read, the count of a class without pixels is unknown, and is -1.
    """
    step = math.ceil(len(samples) / COUNTED_MASKS) or 1
    pixel_counts = partial(_pixel_counts, samples)
    counts = sum(map_in_threads(pixel_counts, range(0, len(samples), step)), np.zeros(256, int))
    if not counts[:num_classes].all():
        counts = sum(map_in_threads(pixel_counts, range(len(samples))), np.zeros(256, int))
    if counts[UNKNOWN]:
        counts[counts == 0] = -1
    return counts[:num_classes].tolist()


def rarest_classes(samples: Samples, num_classes: int) -> Tensor:
    """Return for each image its class that the fewest images have, Long[N]; K for an image without classes."""
    counts = list(map_in_threads(partial(_pixel_counts, samples), range(len(samples))))
    is_present = torch.from_numpy(np.stack([pixels[:num_classes] > 0 for pixels in counts]))  # Bool[N K]
    image_counts = torch.where(is_present, is_present.sum(0), len(samples) + 1)
    return torch.where(is_present.any(1), image_counts.argmin(1), num_classes)


def _pixel_counts(samples: Samples, index: int) -> np.ndarray:
    """Return the number of pixels of each value in a sample's mask, Long[256].

    An unreadable mask counts as one pixel of `UNKNOWN`. Reading the sample later raises the error.
    """
    if not isinstance(samples, MaskFiles):
        return np.bincount(samples.read(index)[-1].numpy().ravel(), minlength=256)
    try:
        return np.bincount(samples.reader.read_with_problems(samples.targets[index])[0].ravel(), minlength=256)
    except UserError:
        return np.bincount([UNKNOWN], minlength=256)
