"""k-means on the patches of a convolution's input."""

import pytest
import torch
from torch import nn

from kit.training.clustering import _dissimilar, _kernels, set_kernels_by_kmeans


def block(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out_channels), nn.ReLU())


def test_kernels_are_the_centres_of_clusters():
    centres = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    pixels = centres.repeat(90, 1)[torch.randperm(360)] + 0.01 * torch.randn(360, 2)
    made = block(2, 20, kernel_size=1)
    before = made[0].weight.detach().clone()
    set_kernels_by_kmeans(made, pixels.view(6, 6, 10, 2).permute(0, 3, 1, 2))
    kernels = made[0].weight.detach().view(20, 2) * 3**0.5
    assert torch.allclose(kernels[:4].norm(dim=1), torch.ones(4), atol=1e-4)
    distances = torch.cdist(kernels[:4], centres)
    assert distances.amin(1).max() < 0.05 and {*distances.argmin(1).tolist()} == {0, 1, 2, 3}
    assert torch.equal(made[0].weight[4:], before[4:])  # there are only four different patches


@pytest.mark.parametrize("channels", [3, 64])  # 64: more values in a patch than principal components
def test_statistics_of_the_normalisation_are_those_of_the_images(channels):
    images, made = torch.randn(7, channels, 9, 12), block(channels, 5, kernel_size=3, stride=2)
    before = torch.random.get_rng_state()
    outputs = set_kernels_by_kmeans(made.eval(), images)
    assert torch.equal(before, torch.random.get_rng_state()) and outputs.shape == (7, 5, 5, 6)
    assert not made[1].training and made[1].momentum == 0.1
    assert torch.allclose(made(images), outputs, atol=0.02)
    responses = made[0](images)
    assert torch.allclose(made[1].running_mean, responses.mean((0, 2, 3)), atol=1e-4)


def test_equal_images_give_finite_kernels():
    made = block(1, 4, kernel_size=3)
    assert set_kernels_by_kmeans(made, torch.ones(3, 1, 6, 5)).isfinite().all()
    assert made[0].weight.isfinite().all()


def test_plain_backgrounds_give_different_kernels():
    images = torch.zeros(40, 3, 16, 12)
    images[:, :, 5:9, 4:8] = torch.randn(40, 3, 4, 4)
    made = block(3, 24, kernel_size=3)
    set_kernels_by_kmeans(made, images)
    kernels = nn.functional.normalize(made[0].weight.detach().flatten(1))
    assert (kernels @ kernels.T).fill_diagonal_(0).max() < 0.99


def test_different_points():
    points = torch.tensor([[1.0, 0.0, 0.0]] * 6 + [[0.0, 1.0, 0.0]] * 3 + [[0.0, 0.0, 1.0]])
    assert torch.equal(_dissimilar(points, 5), torch.eye(3)) and torch.equal(_dissimilar(points, 2), torch.eye(3)[:2])


def test_an_empty_cluster_gets_a_point(monkeypatch):
    monkeypatch.setattr("kit.training.clustering._dissimilar", lambda points, count: points[:1].repeat(count, 1))
    patches = torch.tensor([[1.0, 0.0, 0.0]] * 30 + [[0.0, 1.0, 0.0]] * 20) + 0.01 * torch.randn(50, 3)
    kernels = _kernels(patches, 2, torch.Generator().manual_seed(0))
    assert kernels[0] @ kernels[1] < -0.3  # relative to the mean, the two are about opposite


def test_chunks_give_the_same_statistics(monkeypatch):
    images, made = torch.randn(7, 2, 9, 12) + torch.arange(7.0).view(7, 1, 1, 1), block(2, 5, kernel_size=3)
    monkeypatch.setattr("kit.training.clustering.CHUNK_VALUES", 2 * 2 * 9 * 110)  # two images
    outputs = set_kernels_by_kmeans(made, images)
    responses = made[0](images)
    assert torch.allclose(made[1].running_mean, responses.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(made[1].running_var, responses.var((0, 2, 3), correction=0), rtol=1e-4)
    assert torch.allclose(made.eval()(images), outputs, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 64])
def test_too_few_values_keep_the_kernels(channels):
    made = block(channels, 4, kernel_size=1)
    before = made[0].weight.detach().clone()
    assert set_kernels_by_kmeans(made, torch.ones(1, channels, 1, 1)).isfinite().all()
    assert torch.equal(made[0].weight, before) and torch.equal(made[1].running_var, torch.ones(4))
    few = block(channels, 4, kernel_size=3)
    assert set_kernels_by_kmeans(few, torch.randn(2, channels, 2, 1)).isfinite().all()
