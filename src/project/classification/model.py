"""Nets that map Float[B C H W] to the logits of K classes, Float[B K]. The last layer of each is its `head`."""

from collections.abc import Sequence

from torch import Tensor, nn

from project.cnn import Trunk


class CNN(nn.Module):
    """The levels of `project.cnn.Trunk`, global average pooling and a linear layer."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        widths: Sequence[int] = (32, 64, 128),
        depth: int = 2,
        stem_stride: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(in_channels, widths, depth, stem_stride)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.trunk(images)[-1].mean((2, 3))  # [B widths[-1]]
        return self.head(self.dropout(features))


class TextbookCNN(nn.Module):
    """The net of the textbooks: convolution, ReLU, pooling, linear layer. Pooling to 4x4 allows any image size."""

    def __init__(self, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, 32, 3, padding=1)
        self.pooling = nn.MaxPool2d(2)
        self.grid = nn.AdaptiveAvgPool2d(4)
        self.head = nn.Linear(32 * 4 * 4, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        features = self.pooling(self.convolution(images).relu())  # [B 32 H/2 W/2]
        return self.head(self.grid(features).flatten(1))
