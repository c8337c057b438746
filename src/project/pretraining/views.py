"""Random views of images, made of a whole batch at a time on its device."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.ground.ranges import NonNegativeFloat, PositiveInt, Share

ASPECT = 4 / 3  # the largest aspect ratio of a cut part, relative to the image's; the smallest is the inverse


class RandomViews:
    """Cut a random part out of each image, turn and mirror it, resize it to a square, and change its colours.

    The colours are changed as in SimCLR (Chen et al. 2020, section 3), without blur. The images are normalised: one
    standard deviation is 1.

    Args:
        size: the height and width of a view in pixels.
        scale: the smallest and the largest area of the part, as a share of the image's area.
        angle_deg: the largest angle that a view is turned by, clockwise or anticlockwise.
        mirror: whether half of the views are mirrored left to right.
        brightness: the largest change of all values, in standard deviations.
        contrast: the largest relative change of the differences from the mean value.
        saturation: the largest relative change of the differences between the channels.
        tint: the largest change of all values of a channel, in standard deviations.
        grey: the share of views without colour.
    """

    def __init__(
        self,
        size: PositiveInt = 32,
        scale: Sequence[float] = (0.2, 1.0),
        angle_deg: NonNegativeFloat = 10.0,
        mirror: bool = True,
        brightness: NonNegativeFloat = 0.8,
        contrast: NonNegativeFloat = 0.4,
        saturation: NonNegativeFloat = 0.4,
        tint: NonNegativeFloat = 0.3,
        grey: Share = 0.2,
    ) -> None:
        self.size, self.scale, self.angle_deg, self.mirror = size, tuple(scale), angle_deg, mirror
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.tint, self.grey = tint, grey

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a view of each image: Float[B C H W] to Float[B C size size].

        Args:
            generator: the generator of the random numbers, on the CPU; None for the default one.
        """

        def uniform(low: float, high: float, channels: int = 1) -> Tensor:
            values = torch.empty(len(images), channels, 1, 1).uniform_(low, high, generator=generator)
            return values.to(images.device, images.dtype)

        grid = F.affine_grid(self._transforms(uniform), [*images.shape[:2], self.size, self.size], align_corners=False)
        views = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
        views = views + uniform(-self.brightness, self.brightness)
        views = views + uniform(-self.tint, self.tint, images.shape[1])
        mean = views.mean((1, 2, 3), keepdim=True)
        views = mean + (views - mean) * (1 + uniform(-self.contrast, self.contrast))
        shades = views.mean(1, keepdim=True)
        saturation = (1 + uniform(-self.saturation, self.saturation)) * (uniform(0, 1) >= self.grey)
        views = shades + (views - shades) * saturation
        return views.contiguous(memory_format=torch.channels_last)

    def _transforms(self, uniform: Callable[..., Tensor]) -> Tensor:
        """Return the affine transforms from a view to its image, Float[B 2 3], both with coordinates from -1 to 1."""
        area, aspect = uniform(*self.scale), uniform(-math.log(ASPECT), math.log(ASPECT)).exp()
        height, width = ((area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1))
        x, y = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
        angle = uniform(-self.angle_deg, self.angle_deg).deg2rad()
        sign = 1 - 2 * (uniform(0, 1) < 0.5) * self.mirror
        rows = [
            width * angle.cos() * sign,
            -width * angle.sin(),
            x,
            height * angle.sin() * sign,
            height * angle.cos(),
            y,
        ]
        return torch.cat(rows, 1).view(-1, 2, 3)
