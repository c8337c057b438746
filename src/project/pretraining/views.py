"""Random views of images. The views of a whole batch are made at once, on its device."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.ground.errors import UserError
from kit.ground.ranges import NonNegativeFloat, PositiveInt, Share

ASPECT = 4 / 3  # the largest aspect ratio of a cut part, relative to the image's; the smallest is the inverse


class RandomViews:
    """Cut a random part out of each image, turn and mirror it, resize it to a square, and change its colours.

    The colours are changed as in SimCLR (Chen et al. 2020, section 3), without blur. The images must already
    be normalised, so that the value 1 is one standard deviation. The colour changes leave opacity, the fourth channel,
    as it is.

    Args:
        size: the height and width of a view in pixels.
        scale: the smallest and the largest area of the part, as a share of the image's area, above 0. A part that
            would be wider or higher than the image is cut to it, and so has a smaller area.
        angle_deg: the largest angle that a view is turned by, clockwise or anticlockwise.
        mirror: whether to mirror views left to right, each with a probability of 0.5.
        brightness: the largest number that is added to or subtracted from all values of an image, in standard
            deviations.
        contrast: the largest relative change of the differences from the mean value.
        saturation: the largest relative change of the differences between the channels.
        tint: the largest number that is added to or subtracted from each channel separately, in standard deviations.
        grey: the probability that a view loses its colours.
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
        if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
            raise UserError(f"model.views.scale is {list(scale)}; give [LOW, HIGH], with 0 < LOW <= HIGH <= 1")
        self.size, self.scale, self.angle_deg, self.mirror = size, tuple(scale), angle_deg, mirror
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.tint, self.grey = tint, grey

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a view of each image: Float[B C H W] to Float[B C size size].

        Args:
            generator: the generator of the random numbers, on the CPU; None for the default one.
        """
        with torch.autocast(images.device.type, enabled=False):
            views = self._views(images.float(), generator)
        return views.to(images.dtype, memory_format=torch.channels_last)

    def _views(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Return a view of each image, in float32: Float[B C H W] to Float[B C size size]."""

        def uniform(low: float, high: float, channels: int = 1) -> Tensor:
            values = torch.empty(len(images), channels, 1, 1).uniform_(low, high, generator=generator)
            return values.to(images.device)

        grid = F.affine_grid(self._transforms(uniform), [*images.shape[:2], self.size, self.size], align_corners=False)
        views = F.grid_sample(self._shrink(images), grid, padding_mode="reflection", align_corners=False)
        colours, opacity = views[:, :3], views[:, 3:]
        colours = colours + uniform(-self.brightness, self.brightness)
        colours = colours + uniform(-self.tint, self.tint, colours.shape[1])
        mean = colours.mean((1, 2, 3), keepdim=True)
        colours = mean + (colours - mean) * (1 + uniform(-self.contrast, self.contrast))
        shades = colours.mean(1, keepdim=True)
        saturation = (1 + uniform(-self.saturation, self.saturation)) * (uniform(0, 1) >= self.grey)
        return torch.cat([shades + (colours - shades) * saturation, opacity], 1)

    def _shrink(self, images: Tensor) -> Tensor:
        """Shrink large images until the smallest part that may be cut has about the size of a view: Float[B C h w].

        `grid_sample` reads only the pixels around the centre of each pixel of a view. In a large image, neighbouring
        centres are many pixels apart. Without shrinking, the pixels between them would be skipped (aliasing).
        """
        side = math.ceil(self.size / math.sqrt(self.scale[0]))
        size = [min(length, side) for length in images.shape[2:]]
        if size == list(images.shape[2:]):
            return images
        return F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)

    def _transforms(self, uniform: Callable[..., Tensor]) -> Tensor:
        """Return the affine transforms from a view to its image, Float[B 2 3], both with coordinates from -1 to 1."""
        area, aspect = uniform(*self.scale), uniform(-math.log(ASPECT), math.log(ASPECT)).exp()
        height, width = ((area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1))
        x, y = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
        angle = uniform(-self.angle_deg, self.angle_deg).deg2rad()
        sign = 1 - 2 * (uniform(0, 1) < 0.5) * self.mirror
        entries = [
            width * angle.cos() * sign,
            -width * angle.sin(),
            x,
            height * angle.sin() * sign,
            height * angle.cos(),
            y,
        ]
        return torch.cat(entries, 1).view(-1, 2, 3)
