"""Set the kernels of convolutions by k-means on patches of their input, a better start than random kernels."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

PATCHES = 20_000  # the number of patches that k-means divides into clusters, for each convolution
STARTS = 5_000  # the number of patches among which the first centres are chosen
MAX_SIMILARITY = 0.99  # the largest cosine of the angle between two first centres
# The smallest distance between a patch and the mean patch, as a share of the root mean square distance.
MIN_LENGTH = 0.01
ITERATIONS = 10  # the number of iterations of k-means
COMPONENTS = 256  # the number of principal components of patches with more than twice as many values
REGULARISATION = 0.1  # this share of the mean variance is added to each variance before whitening
CHUNK_VALUES = 2**26  # the largest number of patch values that are computed at a time


@torch.no_grad()
def set_kernels_by_kmeans(block: nn.Sequential, images: Tensor) -> Tensor:
    """Set a block's kernels to the centres of spherical k-means on whitened patches (Coates and Ng 2012, section 3).

    Krahenbuhl et al. (2016, Data-dependent Initializations of Convolutional Neural Networks) set all layers in this
    way. The running mean and variance of the normalisation are set to those that the convolution's output has for the
    images. If there are fewer different patches than kernels, the last kernels keep their values.

    Args:
        block: a convolution without bias, a batch normalisation, and perhaps further layers.
        images: the input of the block, Float[N C H W], perhaps on another device than the block.

    Returns:
        the output of the block for the same images, on their device.
    """
    convolution, norm = block[0], block[1]
    device = convolution.weight.device
    num_positions = images[0, 0].numel() // (convolution.stride[0] * convolution.stride[1]) + 1
    parts = images.split(max(1, CHUNK_VALUES // (num_positions * convolution.weight[0].numel())))
    generator = torch.Generator().manual_seed(0)  # the same in all processes
    patches = []
    for part in parts:
        rows = F.unfold(part.to(device), convolution.kernel_size, 1, convolution.padding, convolution.stride)
        rows = rows.transpose(1, 2).flatten(0, 1)  # [patches D]
        order = torch.randperm(len(rows), generator=generator)
        patches.append(rows[order[: PATCHES * len(part) // len(images) + 1].to(device)].float())
    kernels = _kernels(torch.cat(patches), convolution.out_channels, generator)
    # PyTorch's random kernels have a length of about 1 / sqrt(3). Training turns longer kernels more slowly.
    convolution.weight[: len(kernels)] = (kernels / 3**0.5).view(-1, *convolution.weight.shape[1:])
    moments = [torch.var_mean(convolution(part.to(device)).float(), (0, 2, 3), correction=0) for part in parts]
    variances, means = (torch.stack(values, 1) for values in zip(*moments, strict=True))  # [out parts]
    shares = torch.tensor([len(part) / len(images) for part in parts], device=device)
    mean = means @ shares
    variance = (variances + (means - mean[:, None]).square()) @ shares
    if variance.max() > 0:  # the variance of a single value is 0
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
    is_training = norm.training
    norm.eval()
    outputs = torch.cat([block(part.to(device)).to(images.device) for part in parts])
    norm.train(is_training)
    return outputs


def _kernels(patches: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return at most `count` kernels of length 1, Float[K D]: the centres of clusters of the patches, Float[N D]."""
    mean = patches.mean(0)
    points = patches - mean
    lengths = points.norm(dim=1)
    is_far = lengths > MIN_LENGTH * lengths.square().mean().sqrt() + 1e-5 * mean.norm()  # not rounding errors
    if not is_far.any():
        return points[:0]
    whitening = _whitening(points)
    points = F.normalize(points[is_far] @ whitening)
    centres = _dissimilar(points[torch.randperm(len(points), generator=generator)[:STARTS].to(points.device)], count)
    for _ in range(ITERATIONS):
        similarities, nearest = (points @ centres.T).max(1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        is_empty = sums.norm(dim=1) < 1e-6
        centres = F.normalize(sums)
        centres[is_empty] = points[similarities.argsort()[: int(is_empty.sum())]]  # the farthest from their centres
    kernels = centres @ whitening  # [K D]
    lengths = kernels.norm(dim=1)
    return F.normalize(kernels[lengths > 1e-6 * lengths.max()])


def _dissimilar(points: Tensor, count: int) -> Tensor:
    """Return at most `count` points of length 1 from Float[N D], skipping each that is similar to one chosen before."""
    is_left = torch.ones(len(points), dtype=torch.bool, device=points.device)
    chosen: list[int] = []
    while len(chosen) < count and is_left.any():
        chosen.append(int(is_left.int().argmax()))
        is_left &= points @ points[chosen[-1]] < MAX_SIMILARITY
        is_left[chosen[-1]] = False  # even if rounding makes its similarity to itself lower than the limit
    return points[chosen]


def _whitening(points: Tensor) -> Tensor:
    """Return the symmetric matrix, Float[D D], that whitens points, Float[N D].

    If D is above 2 * `COMPONENTS`, the result keeps only the `COMPONENTS` largest principal components.
    """
    if points.shape[1] <= 2 * COMPONENTS:
        variances, vectors = torch.linalg.eigh(points.T @ points / len(points))
    else:
        with torch.random.fork_rng(devices=[points.device] if points.is_cuda else []):
            torch.manual_seed(0)  # the same in all processes
            _, values, vectors = torch.svd_lowrank(points, min(COMPONENTS, len(points)))
        variances = values.square() / len(points)
    regular = variances.clamp(min=0) + REGULARISATION * variances.mean() + 1e-8
    return vectors @ torch.diag(regular.rsqrt()) @ vectors.T
