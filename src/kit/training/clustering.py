"""Set convolutions by k-means on patches of their input, as a start that is better than random kernels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCHES = 20_000  # the number of patches that k-means divides into clusters, for each convolution
ITERATIONS = 10  # of k-means
COMPONENTS = 256  # the largest number of principal components of the patches
REGULARISATION = 0.1  # is added to the variance of each component, as a share of the mean variance, before whitening
CHUNK = 50  # the number of images whose patches are taken at a time


@torch.no_grad()
def cluster_patches(block: nn.Sequential, images: Tensor) -> Tensor:
    """Set a block's kernels to the centres of spherical k-means on whitened patches (Coates and Ng 2012, section 3).

    Krahenbuhl et al. (2016, Data-dependent Initializations of Convolutional Neural Networks) start all layers so. The
    running statistics of the normalisation become those of the images.

    Args:
        block: a convolution without bias, a normalisation, and perhaps further layers.
        images: the input of the block, Float[N C H W].

    Returns:
        the output of the block for the same images.
    """
    convolution, norm = block[0], block[1]
    generator = torch.Generator().manual_seed(0)  # the same in all processes
    patches = []
    for part in images.split(CHUNK):
        rows = F.unfold(part, convolution.kernel_size, padding=convolution.padding, stride=convolution.stride)
        rows = rows.transpose(1, 2).flatten(0, 1)  # [patches D]
        order = torch.randperm(len(rows), generator=generator)
        patches.append(rows[order[: PATCHES * len(part) // len(images) + 1].to(rows.device)])
    points = torch.cat(patches).float()
    whitening = _whitening(points - points.mean(0))
    points = F.normalize((points - points.mean(0)) @ whitening)
    chosen = torch.randint(len(points), (convolution.out_channels,), generator=generator)
    centres = points[chosen.to(points.device)]
    for _ in range(ITERATIONS):
        nearest = (points @ centres.T).argmax(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        is_empty = sums.norm(dim=1, keepdim=True) < 1e-6
        centres = torch.where(is_empty, centres, F.normalize(sums))
    kernels = F.normalize(centres @ whitening)  # [out D]
    # A random kernel has a mean length of 1 / sqrt(3). If kernels are longer, training changes their directions less.
    convolution.weight.copy_((kernels / 3**0.5).view_as(convolution.weight))
    momentum, norm.momentum, is_training = norm.momentum, 1.0, norm.training
    norm.train()
    outputs = block(images)
    norm.momentum = momentum
    norm.train(is_training)
    return outputs


def _whitening(points: Tensor) -> Tensor:
    """Return the symmetric matrix that whitens the largest principal components of points, Float[N D]: Float[D D]."""
    if points.shape[1] <= 2 * COMPONENTS:
        variances, vectors = torch.linalg.eigh(points.T @ points / len(points))
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the same in all processes
            _, values, vectors = torch.svd_lowrank(points, COMPONENTS)
        variances = values.square() / len(points)
    regular = variances.clamp(min=0) + REGULARISATION * variances.mean() + 1e-8
    return vectors @ torch.diag(regular.rsqrt()) @ vectors.T
