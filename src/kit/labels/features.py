"""The metrics of features that were learned without labels."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from kit.data.samples import evenly_spaced_part
from kit.evaluation import Evaluation

NEIGHBOURS = 5  # the number of neighbours that vote for the class of an image
LOSS_IMAGES = 64  # the number of images whose loss is computed at a time
MAX_COMPARED = 10_000  # the largest number of images that are compared with each other


class FeatureEvaluation(Evaluation):
    """`loss`, `effective_rank` and `knn_accuracy`: see the functions below.

    `loss` is the mean over random chunks of 64 images. A last chunk of fewer than 32 images is left out, unless it
    is the only one. `knn_accuracy` is computed if the targets are class numbers, Long[B], of at least two classes. It
    leaves out images with a negative target.

    Each row of `outputs`, Float[B D+V*P], has the D features of an image. They are followed by the projections of its
    V views, P numbers each.

    Args:
        class_names: the names of the classes.
        num_features: D.
        num_views: V.
        loss: maps the projections of some images, Float[V B P], to their loss, Float[].
    """

    def __init__(
        self, class_names: Sequence[str], num_features: int, num_views: int, loss: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__(class_names)
        self.num_features, self.num_views, self.loss = num_features, num_views, loss

    def entries(self, outputs: Tensor, targets: Tensor) -> Tensor:
        has_classes = isinstance(targets, Tensor) and targets.ndim == 1 and targets.dtype == torch.long
        classes = targets if has_classes else torch.full((len(outputs),), -1, device=outputs.device)
        return torch.cat([outputs.float(), classes[:, None]], 1)

    def compute(self, by_class: bool = False) -> dict[str, float]:
        return dict(self.once(self._metrics))

    def _metrics(self) -> dict[str, float]:
        if not len(self):
            return {}
        rows, targets = self.rows[:, :-1], self.rows[:, -1].long()
        features = rows[:, : self.num_features]
        projections = rows[:, self.num_features :].unflatten(1, (self.num_views, -1)).transpose(0, 1)
        values = {"loss": self._mean_loss(projections), "effective_rank": effective_rank(features)}
        is_known = (targets >= 0) & features.isfinite().all(1)
        features, targets = features[is_known], targets[is_known]
        if len(targets.unique()) > 1 and len(targets) > NEIGHBOURS:
            indices = evenly_spaced_part(range(len(targets)), MAX_COMPARED)
            values["knn_accuracy"] = neighbour_accuracy(features[indices], targets[indices])
        return values

    def _mean_loss(self, projections: Tensor) -> float:
        """Return the mean loss of chunks of similar size, since the loss of a batch may depend on its size."""
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(projections.shape[1], generator=generator)  # the images may be sorted by class
        chunks = projections[:, order].split(LOSS_IMAGES, 1)
        if len(chunks) > 1 and chunks[-1].shape[1] < LOSS_IMAGES / 2:
            chunks = chunks[:-1]
        losses = [float(self.loss(chunk)) for chunk in chunks]
        return sum(losses) / len(losses)


def effective_rank(features: Tensor) -> float:
    """Return the effective rank of features, Float[N D], around their mean: 1 to min(N - 1, D), or 0 if all are equal.

    It is the exponential of the entropy of the normalised singular values (Roy and Vetterli 2007, The effective rank),
    or NaN if a feature is not finite.
    """
    if not features.isfinite().all():
        return float("nan")
    values = torch.linalg.svdvals((features - features.mean(0)).double())
    if float(values.sum()) < 1e-9:
        return 0.0
    shares = values / values.sum()
    return float(torch.special.entr(shares).sum().exp())


def neighbour_accuracy(features: Tensor, targets: Tensor) -> float:
    """Return the accuracy of a k-nearest-neighbour classifier (k = 5) that predicts each image from the others.

    Images are compared by the cosine similarity of their features, after the mean is subtracted. A neighbour's vote has
    the weight 1 + its similarity.

    Args:
        features: Float[N D].
        targets: Long[N].
    """
    unit_features = F.normalize(features - features.mean(0), dim=1)
    similarities = (unit_features @ unit_features.T).fill_diagonal_(-2)  # an image is not its own neighbour
    weights, nearest = similarities.topk(NEIGHBOURS)
    votes = torch.zeros(len(targets), int(targets.max()) + 1).scatter_add_(1, targets[nearest], 1 + weights)
    return float((votes.argmax(1) == targets).float().mean())
