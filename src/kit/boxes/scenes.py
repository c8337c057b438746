"""Generate scenes: handwritten digits on a textured background, with a box around the ink of each digit."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from kit.data.digits import digits_of

MAX_DIGITS = 6
SIZES = range(14, 37)  # the height and width of an enlarged digit, in pixels
MAX_OVERLAP = 0.1  # the largest overlap of two boxes, as a share of the smaller box's area
MIN_INK = 0.3  # a digit's box just encloses the pixels with more ink than this, on a scale of 0 to 1
TRIES = 20  # the number of random positions for each digit; the first free position is used

# By split: the number of training scenes divided by the split's number of scenes, and the seed of the random numbers.
SPLITS = {"train": (1, 0), "val": (10, 1), "test": (5, 2)}

Box = tuple[int, ...]  # left, top, right and bottom in pixels, and the label once the digit is placed


def digit_scenes(split: str, count: int, size: tuple[int, int], split_seed: int) -> tuple[Tensor, list[dict[str, Any]]]:
    """Generate the scenes of a split from scikit-learn's digits. No image of a digit is in two splits.

    Args:
        split: `train`, `val` or `test`.
        count: the number of training scenes. Validation has a tenth as many, and test a fifth.
        size: the height and width of a scene, in pixels.
        split_seed: decides which images of digits are for training and which for validation.

    Returns:
        see `make_scenes`.
    """
    divisor, seed = SPLITS[split]
    return make_scenes(*digits_of(split, split_seed), max(1, count // divisor), size, seed)


def make_scenes(
    digits: Tensor, labels: Tensor, count: int, size: tuple[int, int], seed: int
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Generate scenes of one to six digits. A digit without a free position is left out.

    Args:
        digits: uint8 [N 1 8 8].
        labels: the digits as numbers, Long[N], 0 to 9. The label of a box is its number + 1.
        count: the number of scenes.
        size: the height and width of a scene, in pixels.
        seed: the seed of all random numbers.

    Returns:
        uint8 [count 3 H W], and a target for each scene, see `kit.boxes.targets`.
    """
    random = np.random.default_rng(seed)
    scenes = _backgrounds(count, size, seed)
    digit_counts = random.integers(1, MAX_DIGITS + 1, count)
    scene_indices = np.repeat(np.arange(count), digit_counts)
    indices = random.integers(0, len(digits), len(scene_indices))
    edges = random.choice(np.array([edge for edge in SIZES if edge <= min(size)] or [min(size)]), len(scene_indices))
    colours = random.integers(170, 256, (len(scene_indices), 3)).astype(np.float32)
    positions = random.random((len(scene_indices), TRIES, 2))
    boxes_of_scenes: list[list[Box]] = [[] for _ in range(count)]
    for scene, index, edge, colour, candidates in zip(scene_indices, indices, edges, colours, positions, strict=True):
        ink = _enlarge(digits[index], int(edge))
        if box := _find_free_box(ink.shape, size, candidates, boxes_of_scenes[scene]):
            left, top, right, bottom = box
            part, ink = scenes[scene, top:bottom, left:right], ink[:, :, None]
            part[:] = part * (1 - ink) + colour * ink
            boxes_of_scenes[scene].append((*box, int(labels[index]) + 1))
    targets = []
    for boxes in boxes_of_scenes:
        table, crowd = torch.tensor(boxes, dtype=torch.long).view(-1, 5), torch.zeros(len(boxes), dtype=torch.bool)
        targets.append({"boxes": table[:, :4].float(), "labels": table[:, 4], "crowd": crowd, "size": size})
    return torch.from_numpy(scenes).permute(0, 3, 1, 2), targets


def _backgrounds(count: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """Return coarse patches of dark colour under fine noise, uint8 [count H W 3]."""
    generator = torch.Generator().manual_seed(seed)
    scenes = np.empty((count, *size, 3), np.uint8)
    for part in np.split(scenes, range(256, count, 256)):  # in parts, to save memory
        coarse = F.interpolate(torch.rand(len(part), 3, 4, 6, generator=generator), size, mode="bilinear") * 100
        fine = torch.rand(len(part), 1, *size, generator=generator) * 40
        part[:] = (20 + coarse + fine).byte().permute(0, 2, 3, 1)
    return scenes


def _enlarge(digit: Tensor, edge: int) -> np.ndarray:
    """Enlarge a digit to `edge` x `edge` pixels, and return its ink, cropped to its box, Float[h w] from 0 to 1."""
    ink = F.interpolate(digit[None].float() / 255, (edge, edge), mode="bicubic").clamp(0, 1)[0, 0].numpy()
    rows, columns = (np.flatnonzero((ink > MIN_INK).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _find_free_box(shape: Sequence[int], size: Sequence[int], candidates: np.ndarray, boxes: list[Box]) -> Box | None:
    """Return the first box that overlaps no other box by more than `MAX_OVERLAP`, or None if there is none.

    Args:
        shape: the height and width of the box.
        size: the height and width of the scene.
        candidates: Float[TRIES 2], positions to try in this order, from 0 (top, left) to 1 (bottom, right).
        boxes: the boxes in the scene so far.
    """
    height, width = shape
    for down, across in candidates.tolist():
        top, left = round(down * (size[0] - height)), round(across * (size[1] - width))
        box = left, top, left + width, top + height
        if all(_overlap(box, other) <= MAX_OVERLAP for other in boxes):
            return box
    return None


def _overlap(box: Box, other: Box) -> float:
    width = max(0, min(box[2], other[2]) - max(box[0], other[0]))
    height = max(0, min(box[3], other[3]) - max(box[1], other[1]))
    return width * height / min((b[2] - b[0]) * (b[3] - b[1]) for b in (box, other))
