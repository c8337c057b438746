"""Scenes of real handwritten digits on textured ground, drawn by seed, with a mask of their ink."""

import torch
from torch import Tensor
from torch.nn import functional as F

HEIGHT, WIDTH = 64, 96
SIZES = (20, 36)  # height and width of a digit, in pixels
MOST = 5
CRISPNESS = 2.5  # of an edge: enlarged eightfold and more, 8x8 pixels are a blur


def draw(digits: Tensor, labels: Tensor, count: int, seed: int) -> Tensor:
    """uint8 [count 2 H W]: grey scenes of one to five digits, and their masks: 0 ground, label + 1 where there is ink.

    Args:
        digits: uint8 [N 1 8 8], of which is drawn with replacement.
        labels: Long[N].
        count: how many scenes.
        seed: the same scenes each time.
    """
    generator = torch.Generator().manual_seed(seed)
    scenes = _ground(count, generator)
    masks = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.uint8)
    numbers = torch.randint(1, MOST + 1, (count,), generator=generator)
    owner = torch.repeat_interleave(torch.arange(count), numbers)
    which = torch.randint(len(digits), (len(owner),), generator=generator)
    sizes = torch.randint(SIZES[0], SIZES[1] + 1, (len(owner),), generator=generator)
    ink = _enlarged(digits[which].float() / 255, sizes)
    shades = torch.rand(len(owner), generator=generator) * 60 + 60
    places = torch.rand(len(owner), 8, 2, generator=generator).tolist()
    taken: dict[int, list[tuple[int, int, int]]] = {}
    for scene, digit, label, shade, tries in zip(
        owner.tolist(), ink, labels[which].tolist(), shades.tolist(), places, strict=True
    ):
        size = len(digit)
        others = taken.setdefault(scene, [])
        for down, right in tries:
            top, left = int(down * (HEIGHT - size + 1)), int(right * (WIDTH - size + 1))
            if all(abs(2 * top + size - y) >= size + s or abs(2 * left + size - x) >= size + s for y, x, s in others):
                others.append((2 * top + size, 2 * left + size, size))  # twice its middle
                scenes[scene, top : top + size, left : left + size] += shade * digit
                masks[scene, top : top + size, left : left + size][digit > 0.5] = label + 1
                break  # a digit that finds no room in eight tries is left out
    return torch.stack([scenes.clamp(0, 255).round().to(torch.uint8), masks], 1)


def _ground(count: int, generator: torch.Generator) -> Tensor:
    """Float[count H W]: each scene's own brightness, soft blotches and fine grain."""
    level = torch.rand(count, 1, 1, generator=generator) * 70 + 30
    blotches = torch.randn(count, 1, 5, 7, generator=generator)
    blotches = F.interpolate(blotches, (HEIGHT, WIDTH), mode="bilinear", align_corners=True)[:, 0]
    grain = torch.randn(count, HEIGHT, WIDTH, generator=generator)
    return level + 14 * blotches + 5 * grain


def _enlarged(digits: Tensor, sizes: Tensor) -> list[Tensor]:
    """Float[N 1 8 8] to Float[size size] each."""
    large: list[Tensor] = [torch.empty(0)] * len(digits)
    for size in sizes.unique().tolist():
        members = (sizes == size).nonzero()[:, 0]
        enlarged = F.interpolate(digits[members], (size, size), mode="bicubic", align_corners=False)[:, 0]
        enlarged = (0.5 + CRISPNESS * (enlarged - 0.5)).clamp(0, 1)
        for member, digit in zip(members.tolist(), enlarged, strict=True):
            large[member] = digit
    return large
