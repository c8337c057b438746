"""Images whose masks travel with them, as one more channel: decoded, cached and augmented together."""

import hashlib
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision import tv_tensors

from kit.data import Files
from kit.data.decode import PADDING, UPRIGHT, decode, fit, orientation_of, upright_size
from kit.data.samples import stack
from kit.ground.errors import UserError
from kit.ground.reading import open_image

IGNORED = 255  # what counts neither in the loss nor in the metrics
UNKNOWN = 254  # what a reader makes of a value that is no class's, before it complains
MOST_CLASSES = 254
SAME_ASPECT = 0.02  # by how much a mask of another size than its image may differ in aspect: it is rounded to pixels


class Reader(Protocol):
    """Makes masks of the entries of `samples.targets`; its `repr` says on what they depend beside the files."""

    def read(self, target: Any) -> np.ndarray:
        """Class numbers, uint8 [h w], as they are stored: not turned by the image's EXIF, and of any size.

        Raises:
            BrokenFiles: the mask cannot be read.
            UserError: it holds values that are no class's.
        """

    def known(self, target: Any) -> np.ndarray:
        """The same, with what cannot be read as a class left out or `UNKNOWN`.

        Raises:
            BrokenFiles: nothing of the mask can be read.
        """

    def files(self, targets: Sequence[Any]) -> list[Path]:
        """What is read for these."""


@dataclass
class MaskFiles(Files):
    """Image files and what their masks are made of: uint8 [C+1 H W], the mask being the last channel.

    size: height and width; None keeps each image's own.
    """

    size: tuple[int, int] | None
    reader: Reader = field(kw_only=True)

    def read(self, index: int) -> Tensor:
        path = self.paths[index]
        pixels = decode(path, self.channels, self.size, self.keep_aspect, self.levels)
        upright, mask = as_seen(self.reader.read(self.targets[index]), path)
        if misfits(mask, upright):
            raise UserError(f"{path}: its mask is {size_in_words(mask.shape)}, the image {size_in_words(upright)}")
        wanted = fit(upright, self.size) if self.size and self.keep_aspect else self.size or upright
        plane = resize_mask(torch.from_numpy(mask), wanted)
        height, width = pixels.shape[1:]
        plane = F.pad(plane, (0, width - plane.shape[1], 0, height - plane.shape[0]), value=IGNORED)
        return torch.cat([pixels.permute(1, 2, 0), plane[..., None]], 2).permute(2, 0, 1)

    def is_truncated(self, index: int) -> bool:
        truncated = super().is_truncated(index)
        self.reader.known(self.targets[index])
        return truncated

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.channels + 1, *(self.size or _common_size(self.paths))

    @property
    def one_size(self) -> bool:
        return self.size is not None

    @property
    def sources(self) -> Sequence[Path]:
        return [*self.paths, *self.reader.files(self.targets)]

    @property
    def reading(self) -> tuple[Any, ...]:
        return *super().reading, repr(self.reader)


def as_seen(mask: np.ndarray, image: Path) -> tuple[tuple[int, int], np.ndarray]:
    """An image's upright height and width, and its mask, turned as the image is where it was drawn on the raw pixels.

    That is told by the size: a mask of the upright size is upright already.
    """
    upright, stored, orientation = sizes_of(image)
    if mask.shape == stored and stored != upright:
        mask = np.array(Image.fromarray(mask).transpose(UPRIGHT[orientation]))
    return upright, mask


def sizes_of(image: Path) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Height and width, upright and as stored, and the orientation of EXIF, which is 1 where nothing is turned."""
    with open_image(image) as header:
        return upright_size(header), (header.height, header.width), orientation_of(header)


def misfits(mask: np.ndarray, size: tuple[int, int]) -> bool:
    """Whether a mask cannot be an image's of that height and width: a smaller one of the same aspect can."""
    return abs(mask.shape[0] * size[1] / (mask.shape[1] * size[0]) - 1) > SAME_ASPECT


def size_in_words(size: Sequence[int]) -> str:
    return f"{size[0]} high and {size[1]} wide"


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """uint8 [H W] to uint8 [size]: each pixel is the nearest one's, by the pixels' middles."""
    if tuple(mask.shape) == tuple(size):
        return mask
    return F.interpolate(mask[None, None], size, mode="nearest-exact")[0, 0]


def image_and_mask(pixels: Tensor, target: Any) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    """`ImageDataModule.sample`: uint8 [C+1 H W] to an image, uint8 [C H W], and a mask, uint8 [H W]."""
    return tv_tensors.Image(pixels[:-1]), tv_tensors.Mask(pixels[-1])


def batch_of(images: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """`ImageDataModule.collate`: uint8 [B C H W] and Long[B H W].

    Smaller ones than the largest are padded at their right and bottom, with grey, and in the mask with 255.
    """
    height, width = (max(mask.shape[side] for mask in masks) for side in (0, 1))

    def padded(tensor: Tensor, value: int) -> Tensor:
        around = (0, width - tensor.shape[-1], 0, height - tensor.shape[-2])
        return F.pad(tensor.as_subclass(Tensor), around, value=value) if any(around) else tensor.as_subclass(Tensor)

    return stack([padded(image, PADDING) for image in images]), torch.stack([padded(m, IGNORED) for m in masks]).long()


def comparable(samples: MaskFiles, index: int) -> Hashable:
    """`ImageDataModule.comparable`: the mask as it lies upright; None where it cannot be read."""
    try:
        mask = as_seen(samples.reader.read(samples.targets[index]), samples.paths[index])[1]
    except (UserError, OSError, ValueError, SyntaxError):
        return None
    return mask.shape, hashlib.sha1(mask.tobytes()).digest()


def _common_size(paths: Sequence[Path]) -> tuple[int, int]:
    first: tuple[int, int] | None = None
    for path in paths:
        with open_image(path) as header:
            size = upright_size(header)
        first = first or size
        if size != first:
            raise UserError(
                f"{paths[0]} is {size_in_words(first)}, {path} {size_in_words(size)}: a cache needs one size; "
                "give --data.image_size '[H, W]', or --data.cache none"
            )
    return first or (0, 0)
