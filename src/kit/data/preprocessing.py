"""How an image becomes what the net gets: the same in training, evaluation and use."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from kit.data.decode import MODES, UNREADABLE, decode_with_size, fit, padded, positive, resize, to_tensor, upright_size
from kit.data.levels import Levels
from kit.ground.errors import BrokenFiles, UserError

LARGEST, SMALLEST = 1e6, 1e-6  # of a mean or a standard deviation: more than any image has, and finite as a float32


@dataclass(frozen=True)
class Preprocessing:
    """
    channels: 1 grey, 3 RGB, 4 RGBA; others are for tensors alone.
    size: the height and width that images are resized to; None keeps each image's own.
    keep_aspect: images are fitted into `size` and padded at their right or bottom, instead of stretched.
    mean, std: one number a channel, for pixels from 0 to 1.
    levels: the values that become black and white in images of more than 8 bits: see `kit.data.decode.decode`.

    Raises:
        UserError: the values do not fit each other.
    """

    channels: int
    size: tuple[int, int] | None
    keep_aspect: bool
    mean: list[float]
    std: list[float]
    levels: Levels | None = None

    def __post_init__(self) -> None:
        if type(self.channels) is not int or self.channels < 1:
            raise UserError(f"images have {self.channels!r} channels, but must have a whole number above 0")
        positive(self.size, "data.image_size")
        for name, given in (("mean", self.mean), ("std", self.std)):
            if not all(type(number) in (int, float) and -LARGEST < number < LARGEST for number in given):
                raise UserError(f"data.{name} must be finite numbers, one a channel")
            if len(given) != self.channels:
                raise UserError(f"data.{name} has {len(given)} numbers, but images have {self.channels} channels")
        if min(self.std) < SMALLEST:
            raise UserError(f"data.std is {list(self.std)}, but must be above 0")
        if self.levels is not None and not (len(self.levels) == 2 and 0 < self.levels[1] - self.levels[0] < math.inf):
            raise UserError(f"the images' levels are {self.levels}, but must be two finite numbers, the smaller first")

    @classmethod
    def of(cls, taught: dict[str, Any]) -> Self:
        """From what a data module leaves in a checkpoint.

        Raises:
            UserError: it does not say it all.
        """
        try:
            size = None if taught["size"] is None else tuple(taught["size"])
            levels = None if taught.get("levels") is None else tuple(taught["levels"])
            return cls(taught["in_channels"], size, bool(taught["keep_aspect"]), taught["mean"], taught["std"], levels)
        except (KeyError, TypeError):
            raise UserError("the checkpoint does not say how its images were made; train it anew") from None

    def read(self, image: str | Path | Image.Image | Tensor) -> tuple[Tensor, tuple[int, int]]:
        """The pixels, uint8 [C H W], and the image's own height and width.

        Args:
            image: a file, a PIL image, or uint8 [c H W] with the net's own channels, or grey (1), RGB (3), RGBA (4).

        Raises:
            BrokenFiles: the file, also of a PIL image, cannot be read.
            UserError: it is none of these.
        """
        if isinstance(image, Tensor):
            size = (int(image.shape[-2]), int(image.shape[-1])) if image.ndim == 3 and image.numel() else None
            if size is None or image.dtype != torch.uint8 or image.shape[0] not in {self.channels, *MODES}:
                given = f"{str(image.dtype).removeprefix('torch.')} {list(image.shape)}"
                raise UserError(
                    f"an image is {given}, but must be uint8 [C, H, W] with C of {self.channels}, 1, 3 or 4"
                )
            if image.shape[0] == self.channels:
                return padded(resize(image.cpu(), self.area(size)), self.size or size), size
            image = to_pil_image(image.cpu(), MODES[image.shape[0]])
        if self.channels not in MODES:
            raise UserError(f"images of {self.channels} channels must be given as tensors, uint8 [C, H, W]")
        if isinstance(image, (str, Path)):
            return decode_with_size(Path(image), self.channels, self.size, self.keep_aspect, self.levels)
        if not isinstance(image, Image.Image):
            raise UserError(f"an image is a {type(image).__name__}, but must be a file, a PIL image or a uint8 tensor")
        try:
            size = upright_size(image)
            return padded(to_tensor(image, self.channels, self.area(size), self.levels), self.size or size), size
        except UNREADABLE as error:  # PIL reads pixels when they are asked for
            raise BrokenFiles(f"{getattr(image, 'filename', '') or 'a PIL image'}: {error}") from None

    def area(self, size: tuple[int, int]) -> tuple[int, int]:
        """The height and width that an image of that `size` takes of the pixels, from their top left."""
        if self.size is None:
            return size
        return fit(size, self.size) if self.keep_aspect else self.size

    def pixels(self, images: Tensor) -> Tensor:
        """The reverse of `normalise`: Float[B C H W] to uint8 [B C H W]."""
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
        return (images.float() * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)

    def normalise(self, images: Tensor) -> Tensor:
        """uint8 [B C H W] to Float[B C H W] of mean 0 and standard deviation 1 over the training set, channels last."""
        mean, std = (torch.tensor(values, device=images.device) for values in (self.mean, self.std))
        width, channels = images.shape[3], images.shape[1]
        # Row by row: a loop over three channels is too short for the processor's vectors and takes five times as long.
        rows = images.permute(0, 2, 3, 1).flatten(2).float()  # [B H W*C]
        rows.mul_((1 / (255 * std)).repeat(width)).sub_((mean / std).repeat(width))
        return rows.unflatten(2, (width, channels)).permute(0, 3, 1, 2)
