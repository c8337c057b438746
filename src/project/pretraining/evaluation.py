"""The metrics of features that were learned without labels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.data.samples import evenly_spaced_part
from kit.evaluation import Evaluation
from project.pretraining.model import gaussian_distance

NEIGHBOURS = 5
MAX_COMPARED = 10_000  # images that are compared with each other


class FeatureEvaluation(Evaluation):
    """`loss`, `effective_rank` and, if there are several classes, `knn_accuracy`: see the functions below.

    `outputs` are the D features of each image and the projections of its V views, Float[B D + V*P].

    Args:
        class_names: the names of the classes.
        num_features: D.
        num_views: V.
        weight: the weight of the distance from a normal distribution in the loss.
        directions: Float[P S].
    """

    def __init__(
        self, class_names: Sequence[str], num_features: int, num_views: int, weight: float, directions: Tensor
    ) -> None:
        super().__init__(class_names)
        self.num_features, self.num_views, self.weight, self.directions = num_features, num_views, weight, directions

    def entries(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.cat([outputs.float(), targets[:, None]], 1)

    def compute(self, by_class: bool = False) -> dict[str, float]:
        if not len(self):
            return {}
        rows, targets = self.rows[:, :-1], self.rows[:, -1].long()
        features = rows[:, : self.num_features]
        projections = rows[:, self.num_features :].unflatten(1, (self.num_views, -1)).transpose(0, 1)
        loss = views_loss(projections, self.weight, self.directions.cpu())
        values = {"loss": float(loss), "effective_rank": effective_rank(features)}
        if len(self.class_names) > 1 and len(rows) > NEIGHBOURS:
            some = evenly_spaced_part(range(len(rows)), MAX_COMPARED)
            values["knn_accuracy"] = neighbour_accuracy(features[some], targets[some])
        return values


def views_loss(projections: Tensor, weight: float, directions: Tensor) -> Tensor:
    """Return the loss of the projections of V views of each image, Float[V B P]: Float[].

    It is (1 - weight) * the mean squared distance of a view from the mean of its image's views, plus weight *
    `gaussian_distance` (Balestriero and LeCun 2025, LeJEPA).
    """
    difference = (projections - projections.mean(0)).square().mean()
    return (1 - weight) * difference + weight * gaussian_distance(projections, directions)


def effective_rank(features: Tensor) -> float:
    """Return the effective rank of features, Float[N D], around their mean: 1 to min(N, D), or 0 if all are equal.

    It is the exponential of the entropy of the normalised singular values (Roy and Vetterli 2007, The effective rank).
    """
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    if float(values.sum()) < 1e-9:
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def neighbour_accuracy(features: Tensor, targets: Tensor) -> float:
    """Return the share of images whose class is that of most of the nearest other images, by cosine similarity.

    Nearer images have more weight. features: Float[N D]; targets: Long[N].
    """
    unit = F.normalize(features - features.mean(0), dim=1)
    similarities = (unit @ unit.T).fill_diagonal_(-2)
    weights, nearest = similarities.topk(NEIGHBOURS)
    votes = torch.zeros(len(targets), int(targets.max()) + 1).scatter_add_(1, targets[nearest], 1 + weights)
    return float((votes.argmax(1) == targets).float().mean())
