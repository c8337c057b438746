"""Generate scenes: handwritten digits on a textured background, with masks of their ink."""

import torch
from torch import Tensor
from torch.nn import functional as F

HEIGHT, WIDTH = 64, 96
SIZES = (20, 36)  # the smallest and the largest side of the square around a digit, in pixels
MAX_DIGITS = 5
TRIES = 8  # the number of random positions for each digit; the first free position is used
CONTRAST = 2.5  # sharpens the edges of digits, which enlarging blurs


def make_scenes(digits: Tensor, labels: Tensor, count: int, seed: int) -> Tensor:
    """Generate grey scenes of one to five digits, and their masks. A digit without a free position is left out.

    Args:
        digits: uint8 [N 1 8 8].
        labels: the digits as numbers, Long[N], 0 to 9.
        count: the number of scenes.
        seed: the seed of all random numbers.

    Returns:
        uint8 [count 2 H W]. Channel 0 is the scene. Channel 1 is its mask, which is 0 for the background and label + 1
        for the ink of a digit.
    """
    generator = torch.Generator().manual_seed(seed)
    scenes = _backgrounds(count, generator)
    masks = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.uint8)
    digit_counts = torch.randint(1, MAX_DIGITS + 1, (count,), generator=generator)
    scene_indices = torch.repeat_interleave(torch.arange(count), digit_counts)
    digit_indices = torch.randint(len(digits), (len(scene_indices),), generator=generator)
    sizes = torch.randint(SIZES[0], SIZES[1] + 1, (len(scene_indices),), generator=generator)
    shades = torch.rand(len(scene_indices), generator=generator) * 60 + 60
    positions = torch.rand(len(scene_indices), TRIES, 2, generator=generator)
    properties = (values.tolist() for values in (scene_indices, digit_indices, sizes, shades, positions))
    is_free = torch.ones(count, HEIGHT, WIDTH, dtype=torch.bool)
    for scene_index, digit_index, size, shade, candidates in zip(*properties, strict=True):
        for down, across in candidates:
            top, left = int(down * (HEIGHT - size + 1)), int(across * (WIDTH - size + 1))
            square = scene_index, slice(top, top + size), slice(left, left + size)
            if is_free[square].all():
                is_free[square] = False
                ink = _enlarge(digits[digit_index], size)
                scenes[square] += shade * ink
                masks[square][ink > 0.5] = int(labels[digit_index]) + 1
                break
    return torch.stack([scenes.clamp(0, 255).round().to(torch.uint8), masks], 1)


def _backgrounds(count: int, generator: torch.Generator) -> Tensor:
    """Return backgrounds of random brightness with soft blotches and fine grain, Float[count H W]."""
    brightness = torch.rand(count, 1, 1, generator=generator) * 70 + 30
    blotches = torch.randn(count, 1, 5, 7, generator=generator)
    blotches = F.interpolate(blotches, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)[:, 0]
    grain = torch.randn(count, HEIGHT, WIDTH, generator=generator)
    return brightness + 14 * blotches + 5 * grain


def _enlarge(digit: Tensor, size: int) -> Tensor:
    """Enlarge a digit to `size` x `size` pixels, and return its ink, Float[size size] from 0 to 1."""
    ink = F.interpolate(digit[None].float() / 255, (size, size), mode="bicubic", align_corners=False)[0, 0]
    return (0.5 + CONTRAST * (ink - 0.5)).clamp(0, 1)
