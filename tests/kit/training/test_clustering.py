"""k-means on the patches of a convolution's input."""

import pytest
import torch
from torch import nn

from kit.training.clustering import cluster_patches


def block(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


def test_kernels_are_the_centres_of_clusters():
    centres = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    pixels = centres.repeat(90, 1)[torch.randperm(360)] + 0.01 * torch.randn(360, 2)
    made = block(2, 20, kernel_size=1)
    cluster_patches(made, pixels.view(6, 6, 10, 2).permute(0, 3, 1, 2))
    kernels = made[0].weight.detach().view(20, 2) * 3**0.5
    assert torch.allclose(kernels.norm(dim=1), torch.ones(20), atol=1e-4)
    distances = torch.cdist(kernels, centres)
    assert distances.amin(1).max() < 0.05 and {*distances.argmin(1).tolist()} == {0, 1, 2, 3}


@pytest.mark.parametrize("channels", [3, 64])  # 64: more values in a patch than principal components
def test_statistics_of_the_normalisation_are_those_of_the_images(channels):
    images, made = torch.randn(7, channels, 9, 12), block(channels, 5, kernel_size=3, stride=2)
    before = torch.random.get_rng_state()
    outputs = cluster_patches(made.eval(), images)
    assert torch.equal(before, torch.random.get_rng_state()) and outputs.shape == (7, 5, 5, 6)
    assert not made[1].training and made[1].momentum == 0.1
    assert torch.allclose(made(images), outputs, atol=0.02)
    responses = made[0](images)
    assert torch.allclose(made[1].running_mean, responses.mean((0, 2, 3)), atol=1e-4)


def test_equal_images_give_finite_kernels():
    made = block(1, 4, kernel_size=3)
    assert cluster_patches(made, torch.ones(3, 1, 6, 5)).isfinite().all()
    assert made[0].weight.isfinite().all()
