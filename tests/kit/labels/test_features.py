"""The metrics of features that were learned without labels: known values."""

import math

import pytest
import torch

from kit.labels.features import FeatureEvaluation, effective_rank, neighbour_accuracy


def spread(projections: torch.Tensor) -> torch.Tensor:
    """A loss that depends on all projections, Float[V B P]."""
    return projections.std() * projections.shape[1]


def measured(features: torch.Tensor, projections: torch.Tensor, targets: torch.Tensor) -> FeatureEvaluation:
    """Return the evaluation of features, Float[N D], and projections, Float[N V P]."""
    evaluation = FeatureEvaluation(["a", "b"], features.shape[1], projections.shape[1], spread)
    evaluation.update(torch.arange(len(features)), torch.cat([features, projections.flatten(1)], 1), targets)
    return evaluation


@pytest.mark.parametrize(("images", "used"), [(20, 20), (90, 64), (96, 96), (150, 128)])
def test_the_validation_loss_is_a_mean_over_chunks(images, used):
    made = measured(torch.randn(images, 3), torch.randn(images, 2, 5), torch.zeros(images, dtype=torch.long))
    order = torch.randperm(images, generator=torch.Generator().manual_seed(0))[:used]
    chunks = made.rows[order][:, 3:-1].unflatten(1, (2, 5)).transpose(0, 1).split(64, 1)
    losses = [float(spread(chunk)) for chunk in chunks]
    assert made.compute()["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_images_without_a_class_are_left_out_of_the_neighbours():
    angles = torch.tensor([0.0] * 8 + [3.0] * 8) + 0.01 * torch.arange(16)
    features = torch.stack([angles.cos(), angles.sin()], 1).repeat(2, 1)
    targets = torch.tensor(([0] * 8 + [1] * 8) + [-1] * 16)
    assert measured(features, torch.randn(32, 2, 5), targets).compute()["knn_accuracy"] == 1
    for other in (targets.clamp(max=0), targets.float(), torch.zeros(32, 4), torch.full((32,), -1)):
        assert "knn_accuracy" not in measured(features, torch.randn(32, 2, 5), other).compute()
    once = measured(features, torch.randn(32, 2, 5), targets)
    once.compute().clear()
    assert once.compute() and once.compute() is not once.compute()  # the caller may change its copy
    features[0, 1] = float("nan")
    assert math.isnan(measured(features, torch.randn(32, 2, 5), targets).compute()["effective_rank"])


def test_effective_rank():
    random = torch.randn(50, 5)
    orthogonal = torch.linalg.qr(random - random.mean(0))[0]  # the mean of each column is 0
    assert effective_rank(orthogonal + 7) == pytest.approx(5, abs=1e-4)
    line = torch.linspace(0, 1, 30)[:, None] * torch.randn(1, 6)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.ones(9, 4)) == 0


def test_neighbour_accuracy():
    angles = torch.tensor([0.0] * 8 + [3.0] * 8) + 0.01 * torch.arange(16)
    features = torch.stack([angles.cos(), angles.sin()], 1)
    classes = torch.tensor([0] * 8 + [1] * 8)
    assert neighbour_accuracy(features, classes) == 1
    wrong = classes.clone()
    wrong[0] = 1  # one image of the other class has five neighbours of this one
    assert neighbour_accuracy(features, wrong) == 15 / 16
