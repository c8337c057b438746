"""The net of flow matching: it predicts velocities. `project.generation.flow` defines points, times and velocities."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.ground.errors import UserError
from kit.ground.ranges import PositiveInt, PositiveInts

GROUPS = 8  # the number of groups in each group normalisation


class UNet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) with self-attention at the lowest level.

    The time and the class determine a scale and a shift of each block's features (Dhariwal and Nichol 2021, section 3).

    Args:
        num_classes: the number of classes, K. Class K means that no class is given.
        widths: the number of channels of each level, a multiple of 8. Each level but the first halves the height and
            width, rounded up.
        depth: the number of residual blocks of each level, in the encoder and in the decoder.
        patch: the first level treats patch x patch pixels as one: 1 for tiny images, 2 or 4 for larger ones.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: PositiveInts = (64, 128),
        depth: PositiveInt = 1,
        patch: PositiveInt = 1,
    ) -> None:
        super().__init__()
        if not widths or any(width % GROUPS for width in widths):
            raise UserError(f"model.net.widths is {list(widths)}; give multiples of {GROUPS}, such as [32, 64]")
        self.patch, cond_dim = patch, 2 * widths[0]
        self.class_embedding = nn.Embedding(num_classes + 1, cond_dim)
        self.time_mlp = nn.Sequential(nn.Linear(widths[0], cond_dim), nn.SiLU(), nn.Linear(cond_dim, cond_dim))
        self.first = nn.Conv2d(in_channels * patch**2, widths[0], 3, padding=1)
        # For each level, `down` has the blocks of the encoder, and `up` those of the decoder. `shrink` maps a
        # level to the next lower one, and `projection` maps back. The last `shrink` is the identity, since no level is
        # below. Do not rename these attributes: their names are in checkpoints.
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.projection = nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            self.down.append(nn.ModuleList(Block(width, width, cond_dim) for _ in range(depth)))
            self.up.append(nn.ModuleList(Block(2 * width, width, cond_dim) for _ in range(depth)))
            if level + 1 < len(widths):
                self.shrink.append(nn.Conv2d(width, widths[level + 1], 3, stride=2, padding=1))
                self.projection.append(nn.Conv2d(widths[level + 1], width, 1))
        self.shrink.append(nn.Identity())
        self.middle = Attention(widths[-1])
        self.head = nn.Sequential(
            nn.GroupNorm(GROUPS, widths[0]),
            nn.SiLU(),
            _zero_initialised(nn.Conv2d(widths[0], in_channels * patch**2, 3, padding=1)),
        )

    def forward(self, points: Tensor, times: Tensor, classes: Tensor) -> Tensor:
        """Map points Float[B C H W], times Float[B] from 0 to 1 and classes Long[B] to velocities Float[B C H W]."""
        size = points.shape[2:]
        if self.patch > 1:
            padding = [-side % self.patch for side in size]
            points = F.pixel_unshuffle(F.pad(points, (0, padding[1], 0, padding[0])), self.patch)
        time_features = self.time_mlp(_embed_times(times, self.first.out_channels))
        condition = F.silu(time_features + self.class_embedding(classes))  # [B cond_dim]
        x, skips = self.first(points), []
        for blocks, shrink in zip(self.down, self.shrink, strict=True):
            for block in blocks:
                x = block(x, condition)
                skips.append(x)
            x = shrink(x)
        x = self.middle(x)
        for level in reversed(range(len(self.up))):
            if level + 1 < len(self.up):  # the input comes from the level below
                x = F.interpolate(self.projection[level](x), skips[-1].shape[2:], mode="nearest")
            for block in self.up[level]:
                x = block(torch.cat([x, skips.pop()], 1), condition)
        x = self.head(x)
        return F.pixel_shuffle(x, self.patch)[:, :, : size[0], : size[1]] if self.patch > 1 else x


class Block(nn.Module):
    """A residual block of two convolutions, each after normalisation and SiLU. Initially it is only the shortcut."""

    def __init__(self, in_channels: int, out_channels: int, cond_dim: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(GROUPS, in_channels), nn.GroupNorm(GROUPS, out_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.conv2 = _zero_initialised(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.modulation = nn.Linear(cond_dim, 2 * out_channels)
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, 1)
        hidden = self.conv1(F.silu(self.norm1(x)))
        hidden = self.conv2(F.silu(self.norm2(hidden) * (1 + scale) + shift))
        return self.shortcut(x) + hidden


class Attention(nn.Module):
    """A residual block of self-attention over all pixels. Initially it is the identity."""

    def __init__(self, channels: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.output = _zero_initialised(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1))  # [B 3 heads c H*W]
        query, key, value = qkv.transpose(3, 4).unbind(1)  # [B heads H*W c]
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.output(attended.transpose(2, 3).reshape_as(x))


def _embed_times(times: Tensor, channels: int) -> Tensor:
    """Map times, Float[B], to sines and cosines, Float[B channels], at rates from 1 to 1,000 (Vaswani et al. 2017).

    They are computed in float32 at least, since the angles are up to 1,000, which bfloat16 rounds by up to 2.
    """
    dtype = torch.promote_types(times.dtype, torch.float32)
    rates = torch.linspace(0, math.log(1000), channels // 2, device=times.device, dtype=dtype).exp()
    angles = times[:, None] * rates
    return torch.cat([angles.sin(), angles.cos()], 1).to(times.dtype)


def _zero_initialised(layer: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
