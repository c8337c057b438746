"""Convert an image to the net's input in the same way in training, evaluation and prediction."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2.functional import to_pil_image

from kit.data import decode
from kit.data.levels import Levels
from kit.data.samples import Samples
from kit.ground.errors import UserError

MAX_IMAGES = 5000  # the largest number of images, evenly spaced, from which mean and standard deviation are computed
MAX_VALUE, MIN_STD = 1e6, 1e-6  # limits of mean and standard deviation, so that inputs are finite


@dataclass(frozen=True)
class Preprocessing:
    """The conversion of an image to the net's input.

    channels: 1 for grey, 3 for RGB, 4 for RGBA. With another number, `read` takes only tensors.
    size: the height and width that images are resized to; None keeps the size of each image.
    keep_aspect: fit images into `size` and pad their right or bottom, instead of stretching them.
    mean, std: one number for each channel, for pixels from 0 to 1.
    levels: for images with more than 8 bits, the value that becomes black and the value that becomes white.

    Raises:
        UserError: a value is invalid.
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
        decode.validate_size(self.size, "data.image_size")
        for name, values, lowest in (("mean", self.mean, -MAX_VALUE), ("std", self.std, MIN_STD)):
            are_valid = all(type(number) in (int, float) and lowest <= number <= MAX_VALUE for number in values)
            if not are_valid or len(values) != self.channels:
                raise UserError(f"data.{name} must be {self.channels} numbers from {lowest:g} to {MAX_VALUE:g}")
        if self.levels is not None and not (len(self.levels) == 2 and 0 < self.levels[1] - self.levels[0] < math.inf):
            raise UserError(f"the images' levels are {self.levels}, but must be two finite numbers, the smaller first")

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Create a `Preprocessing` from the state of a data module in a checkpoint.

        Raises:
            UserError: a value is missing or invalid.
        """
        try:
            size = None if state["size"] is None else tuple(state["size"])
            levels = None if state.get("levels") is None else tuple(state["levels"])
            return cls(state["in_channels"], size, bool(state["keep_aspect"]), state["mean"], state["std"], levels)
        except (KeyError, TypeError):
            raise UserError("the checkpoint does not contain the preprocessing of its images; train again") from None

    def read(self, image: str | Path | Image.Image | Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Return the resized pixels, uint8 [C H W], and the image's original height and width.

        Args:
            image: a file, a PIL image, or a tensor uint8 [C H W]. C may differ from `channels` if it is 1 (grey), 3
                (RGB) or 4 (RGBA).

        Raises:
            BrokenFiles: the file, or the PIL image's file, cannot be read.
            UserError: `image` is of another type or shape.
        """
        if isinstance(image, Tensor):
            is_image = image.ndim == 3 and image.numel() > 0 and image.dtype == torch.uint8
            if not is_image or len(image) not in (self.channels, *decode.MODES):
                expected = f"uint8 [C, H, W] with C of {self.channels}, 1, 3 or 4"
                raise UserError(f"an image is {image.dtype} {list(image.shape)}, but must be {expected}")
            size = int(image.shape[1]), int(image.shape[2])
            if len(image) == self.channels:
                return decode.pad(decode.resize(image.cpu(), self.unpadded_size(size)), self.size or size), size
            image = to_pil_image(image.cpu(), decode.MODES[len(image)])
        if self.channels not in decode.MODES:
            raise UserError(f"images of {self.channels} channels must be given as tensors, uint8 [C, H, W]")
        if isinstance(image, (str, Path)):
            options = self.channels, self.size, self.keep_aspect, self.levels
            pixels, size, _ = decode.decode_with_orientation(Path(image), *options)
            return pixels, size
        if not isinstance(image, Image.Image):
            raise UserError(f"an image is a {type(image).__name__}, but must be a file, a PIL image or a uint8 tensor")
        # PIL images from files have a name. Their pixels may not be read yet.
        name = Path(getattr(image, "filename", "") or "a PIL image")
        with decode.broken_file_errors(name), decode.require_shades(image):
            size = decode.upright_size(image)
            pixels = decode.to_tensor(image, self.channels, self.unpadded_size(size), self.levels)
            return decode.pad(pixels, self.size or size), size

    def unpadded_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the height and width that an image of height and width `size` is resized to, before it is padded."""
        return decode.fitted_size(size, self.size) if self.size and self.keep_aspect else self.size or size

    def pixels(self, images: Tensor) -> Tensor:
        """Convert Float[B C H W] to uint8 [B C H W]: the reverse of `normalise`."""
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
        return (images.float() * std + mean).mul(255).round().clamp(0, 255).to(torch.uint8)

    def normalise(self, images: Tensor) -> Tensor:
        """Subtract `mean` and divide by `std`: uint8 [B C H W] to Float[B C H W], with channels last in memory."""
        mean, std = (torch.tensor(values, device=images.device) for values in (self.mean, self.std))
        width, channels = images.shape[3], images.shape[1]
        # Computing with whole rows is five times as fast: loops over three channels are too short to be vectorised.
        rows = images.permute(0, 2, 3, 1).flatten(2).float()  # [B H W*C]
        rows.mul_((1 / (255 * std)).repeat(width)).sub_((mean / std).repeat(width))
        return rows.unflatten(2, (width, channels)).permute(0, 3, 1, 2)


def mean_and_std(
    samples: Samples, sample: Callable[[Tensor, Any], tuple[Tensor, Any]]
) -> tuple[list[float], list[float]]:
    """Return the mean and the standard deviation of each channel in at most `MAX_IMAGES` images.

    Both are for pixels from 0 to 1.

    Args:
        sample: the data module's method: see `kit.data.contents`.
    """
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for index in range(0, len(samples), math.ceil(len(samples) / MAX_IMAGES)):
        image, _ = sample(samples.read(index), samples.targets[index])
        pixels = image.flatten(1).double() / 255
        count, total, squares = count + pixels.shape[1], total + pixels.sum(1), squares + pixels.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-6).sqrt()  # the std of constant images would be 0
    return mean.tolist(), std.tolist()


def for_channels(values: Sequence[float], channels: int) -> list[float]:
    """Return the values of a mean or std if their number fits, or else their average for each channel."""
    return list(values) if len(values) == channels else [sum(values) / len(values)] * channels
