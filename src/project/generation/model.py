"""The net that says where an image is going: noisy images, times and classes to velocities."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.ground.errors import UserError

GROUPS = 8  # of channels that are normalised together


class UNet(nn.Module):
    """Down through `widths`, attention at the bottom, and up again with what was seen on the way (Ronneberger et al.
    2015). Time and class scale and shift each block's features (Dhariwal and Nichol 2021, section 3).

    Args:
        num_classes: K; class K stands for "any".
        widths: the channels of each level, multiples of 8; each level but the first halves the image, rounding up.
        depth: the residual blocks of each level, on the way down and on the way up.
        patch: squares of so many pixels are one place of the first level: 1 for tiny images, 2 or 4 for larger ones.

    Raises:
        UserError: a width is no multiple of 8.
    """

    def __init__(
        self, num_classes: int, in_channels: int = 3, widths: Sequence[int] = (64, 128), depth: int = 1, patch: int = 1
    ) -> None:
        super().__init__()
        if not widths or any(width < 1 or width % GROUPS for width in widths):
            raise UserError(f"model.net.widths is {list(widths)}, but must be multiples of {GROUPS}, such as [32, 64]")
        self.patch, features = patch, 2 * widths[0]
        self.classes = nn.Embedding(num_classes + 1, features)
        self.times = nn.Sequential(nn.Linear(widths[0], features), nn.SiLU(), nn.Linear(features, features))
        self.first = nn.Conv2d(in_channels * patch**2, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            last = level + 1 == len(widths)
            self.down.append(nn.ModuleList(Block(width, width, features) for _ in range(depth)))
            self.up.append(nn.ModuleList(Block(2 * width, width, features) for _ in range(depth)))
            self.shrink.append(nn.Identity() if last else nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
            self.grow.append(nn.Identity() if last else nn.Conv2d(widths[level + 1], width, 1))
        self.middle = Attention(widths[-1])
        self.head = nn.Sequential(
            nn.GroupNorm(GROUPS, widths[0]),
            nn.SiLU(),
            _zero(nn.Conv2d(widths[0], in_channels * patch**2, 3, padding=1)),
        )

    def forward(self, images: Tensor, times: Tensor, classes: Tensor) -> Tensor:
        """Float[B C H W], Float[B] from 0 (noise) to 1 (image) and Long[B] to velocities Float[B C H W]."""
        size = images.shape[2:]
        if self.patch > 1:
            padding = [-side % self.patch for side in size]
            images = F.pixel_unshuffle(F.pad(images, (0, padding[1], 0, padding[0])), self.patch)
        condition = F.silu(self.times(_waves(times, self.first.out_channels)) + self.classes(classes))  # [B features]
        x, seen = self.first(images), []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:
                x = block(x, condition)
                seen.append(x)
            x = shrink(x)
        x = self.middle(x)
        for blocks, grow in zip(reversed(self.up), reversed(self.grow), strict=True):
            if not isinstance(grow, nn.Identity):
                x = F.interpolate(grow(x), seen[-1].shape[2:], mode="nearest")
            for block in blocks:
                x = block(torch.cat([x, seen.pop()], 1), condition)
        x = self.head(x)
        return F.pixel_shuffle(x, self.patch)[:, :, : size[0], : size[1]] if self.patch > 1 else x


class Block(nn.Module):
    """Normalise, SiLU, convolve, twice, beside a shortcut; it begins as the shortcut alone."""

    def __init__(self, in_channels: int, out_channels: int, features: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, in_channels), nn.GroupNorm(GROUPS, out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = _zero(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.modulation = nn.Linear(features, 2 * out_channels)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden) * (1 + scale) + shift))
        return self.shortcut(x) + hidden


class Attention(nn.Module):
    """Every place looks at every other, beside a shortcut; it begins as the shortcut alone."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.inputs = nn.Conv2d(channels, 3 * channels, 1)
        self.output = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        places = self.inputs(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))  # [B 3 heads c H*W]
        query, key, value = places.transpose(3, 4).unbind(1)  # [B heads H*W c]
        found = F.scaled_dot_product_attention(query, key, value)
        return x + self.output(found.transpose(2, 3).reshape_as(x))


def _waves(times: Tensor, channels: int) -> Tensor:
    """Sines and cosines of Float[B], of 1 to 1,000 radians: Float[B channels] (Vaswani et al. 2017, section 3.5)."""
    frequencies = torch.linspace(0, math.log(1000), channels // 2, device=times.device, dtype=times.dtype).exp()
    angles = times[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], 1)


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
