"""Losses: `loss(logits, targets, class_weights)` of Float[B K H W], Long[B H W] and Float[K] or None.

Pixels of 255 count nowhere; where all are, a loss is 0 and has gradients, which are 0 too.
One of your own is any such module, or a `Mean`, if a batch that is computed in parts is to have its exact gradient.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.formats.masks.masks import IGNORED


class Mean(nn.Module):
    """A sum, divided by a sum: subclasses say both in `terms`."""

    def terms(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The sum of the losses and what it is divided by, which add up over the parts of a batch; 0 divides as 1."""
        raise NotImplementedError(f"{type(self).__name__} does not say what its terms are")

    def forward(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
        sums, weights = self.terms(logits, targets, class_weights)
        return sums / weights.where(weights > 0, 1)  # 0 where nothing counts


class CrossEntropy(Mean):
    """The mean over all pixels, each weighing as much as its class.

    Args:
        weight: of this loss in a sum of several.
        label_smoothing: the share of the target that is spread over all classes (Szegedy et al. 2016, section 7).
    """

    def __init__(self, weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self.weight, self.label_smoothing = weight, label_smoothing

    def terms(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        total = F.cross_entropy(
            logits,
            targets,
            class_weights,
            ignore_index=IGNORED,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        return self.weight * total, _mass(targets, class_weights)


class Focal(Mean):
    """Cross-entropy in which pixels that are right already count less (Lin et al. 2017, section 3.2).

    Args:
        weight: of this loss in a sum of several.
        gamma: how much less; 0 is cross-entropy.
    """

    def __init__(self, weight: float = 1.0, gamma: float = 2.0) -> None:
        super().__init__()
        self.weight, self.gamma = weight, gamma

    def terms(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        losses = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")  # [B H W]
        losses = (
            losses * (-torch.expm1(-losses)).clamp(min=1e-6) ** self.gamma
        )  # at 0 a power below 1 has an infinite slope
        if class_weights is not None:
            losses = losses * class_weights[targets.where(targets != IGNORED, 0)]
        return self.weight * losses.sum(), _mass(targets, class_weights)


class Dice(Mean):
    """One minus the soft Dice coefficient of each class that an image shows (Milletari et al. 2016, section 3).

    The mean, by class weight, over the classes of an image, then over the images.

    Args:
        weight: of this loss in a sum of several.
        smooth: added above and below the line, in pixels: a class of a few pixels then moves the loss less.
    """

    def __init__(self, weight: float = 1.0, smooth: float = 1.0) -> None:
        super().__init__()
        self.weight, self.smooth = weight, smooth

    def terms(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        counted = (targets != IGNORED)[:, None]
        precise = torch.promote_types(logits.dtype, torch.float)  # 16 bits are too few for sums over pixels
        shares = logits.to(precise).softmax(1) * counted
        wanted = torch.zeros_like(shares).scatter_(1, targets.where(counted[:, 0], 0)[:, None], 1.0) * counted
        both, either = (shares * wanted).sum((2, 3)), (shares + wanted).sum((2, 3))  # [B K]
        losses = 1 - (2 * both + self.smooth) / (either + self.smooth)
        weights = (wanted.sum((2, 3)) > 0).to(precise) * (1 if class_weights is None else class_weights)
        images = weights.sum(1)
        means = (losses * weights).sum(1) / images.clamp(min=torch.finfo(images.dtype).tiny)
        return self.weight * means.sum(), (images > 0).sum()


def _mass(targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """What the sum over the pixels is divided by."""
    counted = targets != IGNORED
    return counted.sum() if class_weights is None else (class_weights[targets.where(counted, 0)] * counted).sum()
