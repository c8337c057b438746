"""The net of pretraining, and the loss. `Pretrainer.projector` maps the net's features to projections for the loss."""

import torch
from torch import Tensor, nn

from kit.ground.ranges import PositiveInt, PositiveInts
from kit.training.clustering import set_kernels_by_kmeans
from kit.training.weights import load_weights
from project.cnn import Trunk


class Encoder(nn.Module):
    """The trunk of `project.cnn` and global average pooling: Float[B C H W] to features, Float[B D].

    See `Trunk` for the other arguments. D is the last of `widths`.

    Args:
        weights: a run or a checkpoint file from which the trunk is loaded; see `kit.training.weights`.
    """

    def __init__(
        self,
        in_channels: int = 3,
        widths: PositiveInts = (32, 64, 128, 256),
        depth: PositiveInt | PositiveInts = 2,
        stem_stride: PositiveInt = 1,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(in_channels, widths, depth, stem_stride)
        if weights:
            load_weights(self.trunk, weights)
        self.num_features = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        return self.trunk(images)[-1].mean((2, 3))

    def cluster(self, images: Tensor) -> None:
        """Set the kernels of each convolution to k-means centres of its input's patches. images: Float[N C H W]."""
        features = images
        for level in self.trunk.levels:
            for block in level:
                features = set_kernels_by_kmeans(block, features)  # the output of the block


def views_loss(projections: Tensor, weight: float, directions: Tensor, num_images: int | None = None) -> Tensor:
    """Return the loss, Float[], of projections, Float[V B P]: P numbers for each of V views of each of B images.

    It is (1 - weight) * the mean squared difference between the numbers of a view and their means over the image's
    views, plus weight * `gaussian_distance` (Balestriero and LeCun 2025, LeJEPA), which also gets `num_images`.
    """
    projections = projections.float()
    difference = (projections - projections.mean(0)).square().mean()
    return (1 - weight) * difference + weight * gaussian_distance(projections, directions, num_images)


def gaussian_distance(values: Tensor, directions: Tensor, num_images: int | None = None) -> Tensor:
    """Return how far values are from a normal distribution of mean 0 and variance 1, averaged over directions: Float[].

    This is SIGReg (Balestriero and LeCun 2025, LeJEPA): the statistic of Epps and Pulley (1983), averaged over views
    and directions. The statistic compares characteristic functions. SIGReg prevents collapse, in which all images get
    the same values. It is computed in float32, also under autocast.

    Args:
        values: Float[V B P]; the values of each of the V views are compared separately.
        directions: S vectors of length 1, Float[P S].
        num_images: the statistic is an integral times this number of images; by default, B. If the values are a part
            of a batch, give the number of images of the whole batch, so that all parts have the same factor.
    """
    with torch.autocast(values.device.type, enabled=False):
        statistic = _epps_pulley(values.float(), directions.float())
    return statistic * (num_images or values.shape[1])


def _epps_pulley(values: Tensor, directions: Tensor) -> Tensor:
    """Return the mean statistic of `gaussian_distance`, divided by the number of images: Float[]."""
    points = torch.linspace(0, 3, 17, device=values.device)
    # The weights of the trapezoidal rule. The integral from -3 to 3 is twice the integral from 0 to 3, since the
    # integrand is even.
    weights = torch.full_like(points, 2 * 3 / 16)
    weights[[0, -1]] /= 2
    # The characteristic function of the normal distribution. It is also the weight function of the statistic.
    target = torch.exp(-points.square() / 2)
    angles = (values @ directions)[..., None] * points  # [V B S 17]
    error = (angles.cos().mean(1) - target).square() + angles.sin().mean(1).square()  # [V S 17]
    return (error @ (weights * target)).mean()
