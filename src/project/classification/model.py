"""Nets that map Float[B C H W] to logits, Float[B K]. The last layer of each net is its `head`."""

from torch import Tensor, nn

from kit.ground.ranges import PositiveInt, PositiveInts, Share
from kit.training.weights import load_weights
from project.cnn import Trunk


class CNN(nn.Module):
    """The trunk of `project.cnn`, global average pooling and a linear layer. See `Trunk` for the other arguments.

    Args:
        dropout: the probability of dropout before the linear layer.
        weights: a run or a checkpoint file from which the trunk is loaded; see `kit.training.weights`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: PositiveInts = (32, 64, 128),
        depth: PositiveInt | PositiveInts = 2,
        stem_stride: PositiveInt = 1,
        dropout: Share = 0.0,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(in_channels, widths, depth, stem_stride)
        if weights:
            load_weights(self.trunk, weights)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.trunk(images)[-1].mean((2, 3))  # [B widths[-1]]
        return self.head(self.dropout(features))


class TextbookCNN(nn.Module):
    """A minimal net: convolution, ReLU, pooling and a linear layer. It takes images of any size from 2x2 pixels."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.pool_to_4x4 = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(32 * 4 * 4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pool(self.convolution(images).relu())  # [B 32 H/2 W/2]
        return self.head(self.pool_to_4x4(features).flatten(1))
