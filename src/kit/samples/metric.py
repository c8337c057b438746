"""How near generated images are to real ones, as distributions and one by one."""

import torch
from torch import Tensor

from kit.samples.pictures import floats, pixels

AT_ONCE = 250  # images that are compared with all others


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between the normal distributions with the means and covariances of Float[N D] and Float[M D] (Heusel et al.
    2017, GANs Trained by a Two Time-Scale Update Rule, equation 6). It falls as N and M grow: compare at equal ones."""
    means = one.mean(0) - other.mean(0)
    first, second = torch.cov(one.T), torch.cov(other.T)
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    # The trace of the root of a product: of the roots of the eigenvalues of a symmetric matrix that has the same ones.
    common = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    return max(0.0, float(means.square().sum() + first.trace() + second.trace() - 2 * common))


def nearest(images: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """Of each of uint8 [N C H W] the place in `known` of the image with the smallest distance, Long[N], and that
    distance, Float[N]: the root of the mean square over pixels from 0 to 1."""
    wanted, there = (some.flatten(1).float() / 255 for some in (images, known))
    lengths = there.square().sum(1)
    places, squares = [], []
    for some in wanted.split(AT_ONCE):  # without the products' own rounding, the nearest's distance is computed anew
        place = (lengths - 2 * some @ there.T).argmin(1)
        places.append(place)
        squares.append((some - there[place]).square().mean(1))
    return torch.cat(places), torch.cat(squares).sqrt()


def normal_images(images: Tensor, classes: Tensor, wanted: Tensor) -> Tensor:
    """What knows of each class the mean and the spread of each pixel, and nothing of how they belong together: images
    of the classes `wanted`, Long[M], drawn with these: uint8 [M C H W]."""
    generator = torch.Generator().manual_seed(0)
    made = torch.randn(len(wanted), *images.shape[1:], generator=generator)
    for k in wanted.unique().tolist():
        own = floats(images[classes == k])
        made[wanted == k] = own.mean(0) + own.std(0, correction=0) * made[wanted == k]
    return pixels(made)


def noise_images(count: int, shape: torch.Size) -> Tensor:
    """uint8 [count *shape]."""
    return pixels(torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)))
