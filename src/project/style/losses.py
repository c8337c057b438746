"""The content and the style of an image, computed from its features, and how different those of two images are."""

import torch
from torch import Tensor

EPSILON = 1e-6  # the smallest divisor
Statistics = tuple[Tensor, Tensor]


def statistics(maps: Tensor) -> Statistics:
    """Return the means of the channels, Float[B c], and their covariances, Float[B c c], of Float[B c h w].

    Together they are the Gram matrix of Gatys et al. 2016 (section 2.2). They are separate here because the outputs of
    ReLUs are positive: in a Gram matrix the means, which are colours, outweigh the covariances, which are strokes.
    """
    with torch.autocast(maps.device.type, enabled=False):
        flat = _at_least_float32(maps).flatten(2)
        means = flat.mean(2, keepdim=True)
        flat = flat - means
        return means[:, :, 0], flat @ flat.transpose(1, 2) / flat.shape[2]


def with_colours(images: Tensor, maps: list[Tensor]) -> list[Tensor]:
    """Add the pixels, from 0 to 1, as the first map. Without them, features do not tell the colours of edges apart."""
    return [(images + 1) / 2, *maps]


def content(maps: list[Tensor]) -> Tensor:
    """Return the map in which contents are compared: the last but one, or the only one."""
    return maps[-2:][0]


def relative_distance(values: Tensor, target: Tensor) -> Tensor:
    """Return the squared distance divided by the square of the target, Float[B] of Float[B ...].

    The target may have a batch size of 1.
    """
    values, target = _at_least_float32(values), _at_least_float32(target)
    distance = (values - target).square().flatten(1).sum(1)
    return distance / target.square().flatten(1).sum(1).clamp(min=EPSILON)


def _at_least_float32(values: Tensor) -> Tensor:
    """Convert to float32 or more: in float16 a sum of squares over all pixels is infinite."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
