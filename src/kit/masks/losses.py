"""Losses of segmentation.

A loss is called with logits Float[B K H W], targets Long[B H W] and class weights Float[K] or None, and returns
Float[]. Pixels of class 255 are ignored. If all pixels are ignored, a loss and its gradients are 0.

Any module with this signature can be a loss. Derive it from `AdditiveLoss` if gradients must stay exact when a batch is
computed in parts.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from kit.formats.masks.masks import IGNORED
from kit.ground.ranges import NonNegativeFloat, ShareBelowOne


class AdditiveLoss(nn.Module):
    """A loss that is the quotient of two sums over a batch. Subclasses return both sums from `terms`."""

    def terms(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the sum of the losses, Float[], and its divisor, a scalar. Both add up over the parts of a batch."""
        raise NotImplementedError(f"{type(self).__name__} does not define terms()")

    def forward(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> Tensor:
        total, divisor = self.terms(logits, targets, class_weights)
        return total / divisor.where(divisor > 0, 1)


class CrossEntropy(AdditiveLoss):
    """The mean cross-entropy of all pixels, weighted by class.

    Args:
        weight: the factor of this loss in a sum of losses.
        label_smoothing: the share of the target that is spread over all classes (Szegedy et al. 2016, section 7).
    """

    def __init__(self, weight: NonNegativeFloat = 1.0, label_smoothing: ShareBelowOne = 0.0) -> None:
        super().__init__()
        self.weight, self.label_smoothing = weight, label_smoothing

    def terms(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits, class_weights = _promote(logits), None if class_weights is None else _promote(class_weights)
        options = {"ignore_index": IGNORED, "label_smoothing": self.label_smoothing, "reduction": "sum"}
        total = F.cross_entropy(logits, targets, class_weights, **options)
        return self.weight * total, _pixel_weights(targets, class_weights).sum()


class Focal(AdditiveLoss):
    """Cross-entropy with lower weights for well-classified pixels (Lin et al. 2017, section 3.2).

    Args:
        weight: the factor of this loss in a sum of losses.
        gamma: a pixel has the weight (1 - p)^gamma, where p is the probability of its class. If gamma is 0, the loss is
            the cross-entropy.
    """

    def __init__(self, weight: NonNegativeFloat = 1.0, gamma: NonNegativeFloat = 2.0) -> None:
        super().__init__()
        self.weight, self.gamma = weight, gamma

    def terms(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        logits, class_weights = _promote(logits), None if class_weights is None else _promote(class_weights)
        losses = F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="none")  # [B H W]
        # Clamp 1 - p, since a power with an exponent below 1 has an infinite gradient at 0.
        losses = losses * (-torch.expm1(-losses)).clamp(min=1e-6) ** self.gamma
        weights = _pixel_weights(targets, class_weights)
        return self.weight * (losses * weights).sum(), weights.sum()


class Dice(AdditiveLoss):
    """One minus the soft Dice coefficient of each class in an image (Milletari et al. 2016, section 3).

    The loss of an image is the mean over the classes in its target, weighted by class. The loss of a batch is the mean
    over its images.

    Args:
        weight: the factor of this loss in a sum of losses.
        smooth: the number of pixels that is added to the numerator and the denominator of the coefficient. It lowers
            the loss of small classes.
    """

    def __init__(self, weight: NonNegativeFloat = 1.0, smooth: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.weight, self.smooth = weight, smooth

    def terms(self, logits: Tensor, targets: Tensor, class_weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
        is_counted = (targets != IGNORED)[:, None]
        probs = _promote(logits).softmax(1) * is_counted
        one_hot = torch.zeros_like(probs).scatter_(1, targets.where(is_counted[:, 0], 0)[:, None], 1.0) * is_counted
        products, sums = (probs * one_hot).sum((2, 3)), (probs + one_hot).sum((2, 3))  # [B K]
        losses = 1 - (2 * products + self.smooth) / (sums + self.smooth)
        weights = (one_hot.sum((2, 3)) > 0).to(probs) * (1 if class_weights is None else class_weights)
        totals = weights.sum(1)
        means = (losses * weights).sum(1) / totals.clamp(min=torch.finfo(totals.dtype).tiny)
        return self.weight * means.sum(), (totals > 0).sum()


def _promote(values: Tensor) -> Tensor:
    """Return values in at least 32 bits. 16 bits are not enough for sums over pixels."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _pixel_weights(targets: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the weight of each pixel, [B H W], which is 0 for an ignored pixel."""
    is_counted = targets != IGNORED
    return is_counted if class_weights is None else class_weights[targets.where(is_counted, 0)] * is_counted
