"""The net that paints: an image to an image of the same size."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StyleNet(nn.Module):
    """Down, residual blocks, and up again, with instance normalisation (Johnson et al. 2016; Ulyanov et al. 2016).

    Padding mirrors the image, so that no frame is seen; and up it goes by enlarging before a convolution, so that no
    checkerboard is (Odena et al. 2016). Memory grows with the image's area.

    Args:
        widths: the channels of each level; each but the first halves the image, rounding up.
        blocks: how many residual blocks there are at the bottom.
    """

    def __init__(self, in_channels: int = 3, widths: Sequence[int] = (16, 32, 48), blocks: int = 3) -> None:
        super().__init__()
        self.first = Layer(in_channels, widths[0], kernel=9)
        self.down = nn.ModuleList(Layer(above, below, stride=2) for above, below in pairwise(widths))
        self.blocks = nn.Sequential(*(Residual(widths[-1]) for _ in range(blocks)))
        self.up = nn.ModuleList(Layer(below, above) for above, below in reversed(list(pairwise(widths))))
        self.head = nn.Conv2d(widths[0], in_channels, 9)

    def forward(self, images: Tensor) -> Tensor:
        """Float[B C H W] from -1 to 1 to the same."""
        x, sizes = self.first(images), []
        for layer in self.down:
            sizes.append(x.shape[2:])
            x = layer(x)
        x = self.blocks(x)
        for layer in self.up:
            x = layer(x, sizes.pop())
        return torch.tanh(self.head(mirrored(x, 4)))


class Layer(nn.Module):
    """Convolution, instance normalisation and, if wanted, ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1, relu: bool = True
    ) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, stride)
        # A group for each channel is instance normalisation; its own kernel copies images whose channels are last.
        self.norm, self.relu = nn.GroupNorm(out_channels, out_channels), relu

    def forward(self, x: Tensor, size: Sequence[int] | None = None) -> Tensor:
        """Of `x`, enlarged to a height and width before, if they are given."""
        if size is not None:
            x = F.interpolate(x, size, mode="nearest")
        x = mirrored(x, self.convolution.kernel_size[0] // 2)  # on its own line: what it was is freed before the next
        x = self.convolution(x)
        if x.shape[2] * x.shape[3] > 1:  # of a single pixel there is nothing to normalise
            x = self.norm(x)
        return x.relu_() if self.relu else x


class Residual(nn.Module):
    """Two layers beside a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(Layer(channels, channels), Layer(channels, channels, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def mirrored(x: Tensor, padding: int) -> Tensor:
    """With so many pixels more on each side; where an image is too small for its mirror, its edge is repeated."""
    mode = "reflect" if min(x.shape[2:]) > padding else "replicate"
    return F.pad(x, [padding] * 4, mode=mode)
