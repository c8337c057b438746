"""What of an image's features is its content, what its style, and how far two of them are apart."""

import torch
from torch import Tensor

LEAST = 1e-6  # what is divided by is no less
Statistics = tuple[Tensor, Tensor]


def statistics(maps: Tensor) -> Statistics:
    """Of Float[B c h w] the mean of each channel over the places, Float[B c], and their covariances, Float[B c c].

    Together they are the Gram matrix of Gatys et al. 2016 (section 2.2). But what comes out of ReLUs is positive, so
    that in a Gram matrix the means, which are colours, outweigh the covariances, which are strokes.
    """
    with torch.autocast(maps.device.type, enabled=False):
        flat = _summable(maps).flatten(2)
        means = flat.mean(2, keepdim=True)
        flat = flat - means
        return means[:, :, 0], flat @ flat.transpose(1, 2) / flat.shape[2]


def with_colours(images: Tensor, maps: list[Tensor]) -> list[Tensor]:
    """The pixels themselves, from 0 to 1, as the first map: else edges take any colours that features confuse."""
    return [(images + 1) / 2, *maps]


def content(maps: list[Tensor]) -> Tensor:
    """The map in which it is compared what is to be seen: the deepest but one, or a single one."""
    return maps[-2:][0]


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    """The squared distance as a share of the square of what is wanted, which is one for each or one for all.

    Float[B] of Float[B ...].
    """
    found, wanted = _summable(found), _summable(wanted)
    distance = (found - wanted).square().flatten(1).sum(1)
    return distance / wanted.square().flatten(1).sum(1).clamp(min=LEAST)


def _summable(values: Tensor) -> Tensor:
    """At least float32: in float16 a sum of squares over all places is infinite."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
