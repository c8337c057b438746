"""A convolutional trunk (backbone) for the nets of several tasks. It consists of Conv-BN-ReLU blocks only."""

from collections.abc import Sequence

from torch import Tensor, nn

from kit.ground.errors import UserError
from kit.ground.ranges import require_not_empty


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation and ReLU.

    Map Float[B in_channels H W] to Float[B out_channels ceil(H/stride) ceil(W/stride)]. The kernel has the size
    max(3, 2 * stride - 1), so that neighbouring windows overlap.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        kernel_size = max(3, 2 * stride - 1)
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Trunk(nn.Module):
    """A sequence of levels, each made of `ConvBlock`s. Each level but the first halves the height and width.

    Args:
        widths: the number of channels of each level.
        depth: the number of blocks in a level: one number for all levels, or a number for each level.
        stem_stride: the stride of the first level: 1 for small images, 2 or 4 for large ones.
    """

    def __init__(
        self, in_channels: int, widths: Sequence[int], depth: int | Sequence[int] = 2, stem_stride: int = 1
    ) -> None:
        super().__init__()
        require_not_empty(widths)
        depths = [depth] * len(widths) if isinstance(depth, int) else list(depth)
        if len(depths) != len(widths):
            raise UserError(f"{len(depths)} depths for {len(widths)} widths: give one number, or one for each level")
        self.widths = list(widths)
        self.levels = nn.ModuleList()
        for level, width in enumerate(widths):
            first = ConvBlock(in_channels, width, stride=2 if level else stem_stride)
            self.levels.append(nn.Sequential(first, *(ConvBlock(width, width) for _ in range(depths[level] - 1))))
            in_channels = width

    def forward(self, images: Tensor) -> list[Tensor]:
        """Map Float[B C H W] to a list: Float[B widths[i] ceil(H/s) ceil(W/s)] for level i, s = stem_stride * 2**i."""
        maps = []
        for level in self.levels:
            images = level(images)
            maps.append(images)
        return maps
