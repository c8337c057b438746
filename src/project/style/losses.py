"""Compute the content and the style of an image from its feature maps, and compare them between images."""

import torch
from torch import Tensor

EPSILON = 1e-6  # the smallest divisor of a relative distance
Statistics = tuple[Tensor, Tensor]  # means and covariances


def statistics(maps: Tensor) -> Statistics:
    """Return the means, Float[B c], and the covariances, Float[B c c], of the channels of maps, Float[B c h w].

    Covariances describe strokes, and the means of the image itself describe colours: see `add_colours`. The Gram matrix
    of Gatys et al. 2016 (section 2.2) is not used. It is the sum of the covariances and of the products of the means.
    These products are larger, and hide the strokes.
    """
    with torch.autocast(maps.device.type, enabled=False):
        flat = _at_least_float32(maps).flatten(2)
        means = flat.mean(2, keepdim=True)
        flat = flat - means
        return means[:, :, 0], flat @ flat.transpose(1, 2) / flat.shape[2]


def add_colours(images: Tensor, maps: list[Tensor]) -> list[Tensor]:
    """Add the images, scaled to [0, 1], as the first map. The maps of a feature net lose much of the colours."""
    return [(images + 1) / 2, *maps]


def content_map(maps: list[Tensor]) -> Tensor:
    """Return the map that describes the content: the second to last, or the only one."""
    return maps[-2:][0]


def relative_distance(values: Tensor, target: Tensor) -> Tensor:
    """Return |values - target|^2 / |target|^2 for each sample, Float[B].

    Args:
        values: Float[B ...].
        target: Float[B ...] or Float[1 ...].
    """
    values, target = _at_least_float32(values), _at_least_float32(target)
    distance = (values - target).square().flatten(1).sum(1)
    return distance / target.square().flatten(1).sum(1).clamp(min=EPSILON)


def _at_least_float32(values: Tensor) -> Tensor:
    """Convert to float32 or more, since a sum of squares over all pixels overflows float16."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
