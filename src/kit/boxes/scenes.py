"""Scenes of handwritten digits on textured ground, with a box around each digit's ink."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

MOST_DIGITS = 6
SIZES = range(14, 37)  # pixels that a digit's 8x8 are enlarged to
OVERLAP = 0.1  # of the smaller of two boxes
INK = 0.3  # where a digit's box ends
TRIES = 20


def draw(
    digits: Tensor, labels: Tensor, count: int, size: tuple[int, int], seed: int
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Scenes of one to six digits.

    Args:
        digits: uint8 [N 1 8 8].
        labels: Long[N], 0 to 9; label 1 of a box is the digit 0.
        count: of scenes.
        size: their height and width.

    Returns:
        uint8 [count 3 H W], and a target for each, as `kit.boxes.targets` has it.
    """
    random = np.random.default_rng(seed)
    scenes = _ground(count, size, seed)
    numbers = random.integers(1, MOST_DIGITS + 1, count)
    chosen = random.integers(0, len(digits), numbers.sum())
    edges = random.choice(np.array([edge for edge in SIZES if edge <= min(size)] or [min(size)]), numbers.sum())
    inks = _enlarged(digits, chosen, edges)
    colours = random.integers(170, 256, (numbers.sum(), 3)).astype(np.float32)
    places = random.random((numbers.sum(), TRIES, 2))
    targets, first = [], 0
    for scene, number in zip(scenes, numbers, strict=True):
        boxes: list[tuple[int, int, int, int]] = []
        found: list[int] = []
        for digit in range(first, first + number):
            ink = inks[digit]
            box = _free_place(ink.shape, size, places[digit], boxes)
            if box is None:
                continue
            left, top, right, bottom = box
            part, ink = scene[top:bottom, left:right], ink[:, :, None]
            part[:] = part * (1 - ink) + colours[digit] * ink
            boxes.append(box)
            found.append(int(labels[chosen[digit]]) + 1)
        first += number
        targets.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
                "labels": torch.tensor(found, dtype=torch.long),
                "crowd": torch.zeros(len(found), dtype=torch.bool),
                "size": size,
            }
        )
    return torch.from_numpy(scenes).permute(0, 3, 1, 2), targets


def _ground(count: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """uint8 [count H W 3]: coarse patches of dark colour under fine noise."""
    generator = torch.Generator().manual_seed(seed)
    scenes = np.empty((count, *size, 3), np.uint8)
    for start in range(0, count, 256):
        some = min(256, count - start)
        coarse = F.interpolate(torch.rand(some, 3, 4, 6, generator=generator), size, mode="bilinear") * 100
        fine = torch.rand(some, 1, *size, generator=generator) * 40
        scenes[start : start + some] = (20 + coarse + fine).byte().permute(0, 2, 3, 1)
    return scenes


def _enlarged(digits: Tensor, chosen: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
    """Each digit's ink, Float[h w] from 0 to 1, enlarged to its edge and cut to its box."""
    inks: list[np.ndarray] = [np.empty(0)] * len(chosen)
    for edge in np.unique(edges):
        places = np.flatnonzero(edges == edge)
        large = F.interpolate(digits[chosen[places]].float() / 255, (int(edge), int(edge)), mode="bicubic").clamp(0, 1)
        for place, ink in zip(places, large[:, 0].numpy(), strict=True):
            rows, columns = (np.flatnonzero((ink > INK).any(axis)) for axis in (1, 0))
            inks[place] = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return inks


def _free_place(
    shape: tuple[int, ...], size: tuple[int, int], tries: np.ndarray, taken: list[tuple[int, int, int, int]]
) -> tuple[int, int, int, int] | None:
    """Left, top, right, bottom of the first of `tries` that overlaps no other box by more than a little."""
    height, width = shape
    for down, across in tries.tolist():
        top, left = round(down * (size[0] - height)), round(across * (size[1] - width))
        box = left, top, left + width, top + height
        if all(_overlap(box, other) <= OVERLAP for other in taken):
            return box
    return None


def _overlap(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
