"""Conversions of images, and grids of images with and without names."""

import pytest
import torch

from kit.samples import images
from kit.samples.images import from_uint8, to_uint8


def shades(count: int, size: tuple[int, int] = (8, 6)) -> torch.Tensor:
    return (20 * torch.arange(count).view(-1, 1, 1, 1)).expand(count, 1, *size).to(torch.uint8)


def test_pixels_inverts_floats():
    every = torch.arange(256).to(torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(to_uint8(from_uint8(every)), every)
    assert to_uint8(torch.tensor([-3.0, -1, 0, 1, 9])).tolist() == [0, 0, 128, 255, 255]


def test_grid_has_images_row_by_row():
    board = images.image_grid(shades(5), columns=3)  # each 8x6 enlarged by 5, gaps of 5
    assert board.shape == (3, 2 * 40 + 5, 3 * 30 + 2 * 5)
    seen = [int(board[0, 20 + 45 * row, 15 + 35 * column]) for row in range(2) for column in range(3)]
    assert seen[:5] == [0, 20, 40, 60, 80]


def test_wide_names_reduce_the_columns():
    plain, named = (images.image_grid(shades(4), 2, names) for names in ((), list("abcd")))
    assert named.shape[1] > plain.shape[1] and named.shape[2] == plain.shape[2]
    wide = images.image_grid(shades(4), 4, ["a long name of a class " * 4] * 4)
    assert wide.shape[2] <= images.MAX_WIDTH


@pytest.mark.parametrize("size", [(8, 8), (300, 200)])
def test_large_grid_with_names_fits_the_width(size):
    board = images.image_grid(shades(9, size), 9, list("abcdefghi"), images.LARGE_SIDE)
    assert board.shape[2] <= images.MAX_WIDTH
    factor = max(1, round(images.LARGE_SIDE / min(size)))
    assert board.shape[1] > factor * size[0]
