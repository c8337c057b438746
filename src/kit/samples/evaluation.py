"""How well a velocity is known, and how well a picture is painted."""

from collections.abc import Mapping

import torch
from torch import Tensor

from kit.evaluation import Evaluation, Means


class FlowEvaluation(Evaluation):
    """The mean squared error of the velocity (`loss`), and the share of its square that is `explained`.

    `outputs` are, of each image, the mean square of the velocity and of what the net misses of it, Float[B 2].
    """

    score_name = "explained"

    def entries(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.float()

    def compute(self, by_class: bool = False) -> dict[str, float]:
        if not len(self):
            return {}
        there, missed = self.rows.double().mean(0).tolist()
        return {"loss": missed, "explained": max(0.0, 1 - missed / there)}

    def shares(self) -> Tensor:
        there, missed = self.rows.double().unbind(1)
        return torch.stack([there - missed, there], 1)[..., None]


class StyleEvaluation(Means):
    """The means of the parts of a style's loss, and their weighted sum (`loss`).

    Args:
        weights: the weight of each part, by its name.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        super().__init__(list(weights))
        self.weights = dict(weights)

    def compute(self, by_class: bool = False) -> dict[str, float]:
        means = super().compute()
        return {"loss": sum(self.weights[part] * mean for part, mean in means.items()), **means} if means else {}
