"""A U-Net that maps Float[B C H W] to logits, Float[B K H W], for any H and W. Its last layer is `head`."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from kit.ground.ranges import PositiveInt, PositiveInts, Share
from kit.masks.predictions import upsample
from kit.training.weights import load_weights
from project.cnn import ConvBlock, Trunk


class CnnUnet(nn.Module):
    """A U-Net (Ronneberger et al. 2015) on the trunk of `project.cnn`. See `Trunk` for the other arguments.

    If `stem_stride` is above 1, the head computes logits at the lower resolution, and they are upsampled at the end.

    Args:
        dropout: the probability of dropout before the head.
        weights: a run or a checkpoint file from which the trunk is loaded; see `kit.training.weights`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: PositiveInts = (32, 64, 128, 256),
        depth: PositiveInt | PositiveInts = 2,
        stem_stride: PositiveInt = 2,
        dropout: Share = 0.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(in_channels, widths, depth, stem_stride)
        if weights:
            load_weights(self.trunk, weights)
        self.ups = nn.ModuleList(Up(deeper_width, width) for width, deeper_width in pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.trunk(images)
        features = maps[-1]
        for up, skip in zip(reversed(self.ups), reversed(maps[:-1]), strict=True):
            features = up(features, skip)
        logits = self.head(self.dropout(features))  # [B K H/stem_stride W/stem_stride]
        return upsample(logits, images.shape[-2:])


class Up(nn.Module):
    """A level of the decoder: map Float[B deeper_width h w] and a skip, Float[B width H W], to Float[B width H W]."""

    def __init__(self, deeper_width: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(deeper_width, width, 1)
        self.block = ConvBlock(2 * width, width)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        return self.block(torch.cat([upsample(self.narrow(features), skip.shape[-2:]), skip], 1))
