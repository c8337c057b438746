"""The metrics of image generation and style transfer, and distances between images."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kit.evaluation import Evaluation, Means

CHUNK = 250  # the number of images whose distances to all known images are computed at a time


class FlowEvaluation(Evaluation):
    """The metrics of flow matching, in which a net predicts a velocity for each image.

    `loss` is the mean squared error of the velocity. `explained` is max(0, 1 - loss / mean square of the velocity).
    `outputs` are the mean square and the mean squared error of each image's velocity, Float[B 2].
    """

    score_name = "explained"

    entries = Means.entries

    def compute(self, by_class: bool = False) -> dict[str, float]:
        if not len(self):
            return {}
        square, error = self.rows.double().mean(0).tolist()
        return {"loss": error, "explained": max(1 - error / square, 0.0)}  # in this order, NaN stays NaN

    def score_terms(self) -> Tensor:
        square, error = self.rows.double().unbind(1)
        return torch.stack([square - error, square], 1)[..., None]


class StyleEvaluation(Means):
    """The mean of each loss of style transfer by its name, and the weighted sum of these means (`loss`).

    Args:
        weights: the weight of each loss by its name.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(list(weights))
        self.weights = dict(weights)

    def compute(self, by_class: bool = False) -> dict[str, float]:
        means = super().compute()
        return {"loss": sum(self.weights[name] * mean for name, mean in means.items()), **means} if means else {}


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """Return the Frechet distance, squared as in FID, between two sets of features, Float[N D] and Float[M D].

    Each set is described by its mean and its covariance (Heusel et al. 2017, GANs Trained by a Two Time-Scale Update
    Rule, equation 6). The distance falls as N and M grow, so compare only distances with the same N and the same M.
    """
    mean_difference = features.mean(0) - others.mean(0)
    first, second = torch.cov(features.T), torch.cov(others.T)
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # the square root of `first`
    # `root @ second @ root` is symmetric and has the eigenvalues of `first @ second`. The sum of the square roots of
    # the eigenvalues is the trace of the square root of `first @ second`.
    trace_of_root = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return max(0.0, float(mean_difference.square().sum() + first.trace() + second.trace() - 2 * trace_of_root))


def nearest_images(images: Tensor, known_images: Tensor) -> tuple[Tensor, Tensor]:
    """Find the nearest known image of each image.

    Args:
        images: uint8 [N C H W].
        known_images: uint8 [M C H W].

    Returns:
        indices into `known_images`, Long[N], and distances, Float[N]. A distance is the root mean square difference
        of the pixels, whose values are scaled to [0, 1].
    """
    queries, references = (part.flatten(1).float() / 255 for part in (images, known_images))
    indices = torch.cat([torch.cdist(part, references).argmin(1) for part in queries.split(CHUNK)])
    # `cdist` rounds distances near 0 coarsely. Compute the distance to the nearest image again.
    return indices, (queries - references[indices]).square().mean(1).sqrt()
