"""The net that maps images to painted images of the same size."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.ground.ranges import NonNegativeInt, PositiveInts, require_not_empty


class StyleNet(nn.Module):
    """Encoder, residual blocks and decoder, with instance normalisation (Johnson et al. 2016; Ulyanov et al. 2016).

    Padding mirrors the image, since zeros would give a visible frame. The decoder enlarges its maps before each
    convolution, since transposed convolutions would give a checkerboard (Odena et al. 2016).

    Args:
        widths: the number of channels of each level. Each level but the first halves the height and width, rounded up.
        blocks: the number of residual blocks at the lowest level.
    """

    def __init__(self, in_channels: int = 3, widths: PositiveInts = (16, 32, 48), blocks: NonNegativeInt = 3) -> None:
        super().__init__()
        require_not_empty(widths)
        self.first = Layer(in_channels, widths[0], kernel=9)
        self.down = nn.ModuleList(Layer(upper, lower, stride=2) for upper, lower in pairwise(widths))
        self.blocks = nn.Sequential(*(Residual(widths[-1]) for _ in range(blocks)))
        self.up = nn.ModuleList(Layer(lower, upper) for upper, lower in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(widths[0], in_channels, 9)

    def forward(self, images: Tensor) -> Tensor:
        """Map images with values from -1 to 1, Float[B C H W], to painted ones."""
        x, sizes = self.first(images), []
        for layer in self.down:
            sizes.append(x.shape[2:])
            x = layer(x)
        x = self.blocks(x)
        for layer in self.up:
            x = layer(x, sizes.pop())
        return torch.tanh(self.head(pad_mirrored(x, 4)))


class Layer(nn.Module):
    """Convolution, instance normalisation and, by default, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, stride)
        # With a group per channel, this is instance normalisation. `InstanceNorm2d` would copy channels-last tensors.
        self.norm, self.relu = nn.GroupNorm(out_channels, out_channels), relu

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Apply the layer to `x`. If `size`, (height, width), is given, enlarge `x` to it first."""
        if size is not None:
            x = F.interpolate(x, size, mode="nearest")
        x = pad_mirrored(x, self.convolution.kernel_size[0] // 2)  # a new `x` frees the enlarged tensor
        x = self.convolution(x)
        if x.shape[2] * x.shape[3] > 1:  # a single pixel cannot be normalised
            x = self.norm(x)
        return x.relu_() if self.relu else x


class Residual(nn.Module):
    """A residual block of two layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer(channels, channels), Layer(channels, channels, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def pad_mirrored(x: Tensor, padding: int) -> Tensor:
    """Pad each side with mirrored pixels, or with repeated edge pixels if the image is too small."""
    mode = "reflect" if min(x.shape[2:]) > padding else "replicate"
    return F.pad(x, [padding] * 4, mode=mode)
