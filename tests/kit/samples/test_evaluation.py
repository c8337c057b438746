import pytest
import torch

from kit.samples.evaluation import FlowEvaluation, frechet_distance, nearest_images


def exactly(mean: torch.Tensor, spread: torch.Tensor, count: int) -> torch.Tensor:
    """Points whose mean and standard deviations along the axes are exactly these, and whose covariances are 0."""
    size = len(mean)
    points = torch.cat([torch.eye(size), -torch.eye(size)]).double().repeat(count, 1)
    return mean + points / points.std(0) * spread


def test_frechet_distance_of_normal_distributions():
    mean, spread = torch.tensor([1.0, -2, 0.5]).double(), torch.tensor([1.0, 2, 0.5]).double()
    one = exactly(mean, spread, 4)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(one, one + 3) == pytest.approx(27)
    other = exactly(mean + 1, torch.tensor([4.0, 1, 0.5]).double(), 7)
    assert frechet_distance(one, other) == pytest.approx(3 + 9 + 1)
    assert frechet_distance(other, one) == pytest.approx(13)
    turned = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double()).Q
    assert frechet_distance(one @ turned, other @ turned) == pytest.approx(13)


def test_frechet_distance_with_fewer_points_than_dimensions():
    few = torch.randn(5, 40, generator=torch.Generator().manual_seed(0)).double()
    assert frechet_distance(few, few + 1) == pytest.approx(40)


def test_nearest_images():
    known = torch.randint(0, 256, (20, 2, 3, 4), dtype=torch.uint8)
    wanted = known[[7, 3]].clone()
    wanted[1, 0, 0, 0] ^= 255
    indices, distances = nearest_images(wanted, known)
    assert indices.tolist() == [7, 3]
    off = abs(int(wanted[1, 0, 0, 0]) - int(known[3, 0, 0, 0])) / 255
    assert distances.tolist() == pytest.approx([0, (off**2 / 24) ** 0.5], rel=1e-4)


def test_explained_is_nan_if_an_error_is_nan():
    one = FlowEvaluation(["a"])
    one.update(torch.tensor([0, 1]), torch.tensor([[1.0, 3.0], [1.0, 1.0]]), None)
    assert one.compute() == {"loss": 2, "explained": 0}
    one.update(torch.tensor([2]), torch.tensor([[1.0, torch.nan]]), None)
    assert all(value != value for value in one.compute().values())
