"""Exported files paint the same pictures as PyTorch."""

from functools import partial

import numpy as np
import pytest
import torch
from exports import difference, pictures, written
from PIL import Image
from readme_programs import example

from kit.data import Preprocessing
from kit.samples import ClassifierFeatures
from project.style import StyleNet, Stylizer

SIZES = [(37, 51), (64, 96), (70, 45), (9, 30)]


def how(channels: int, size: tuple[int, int] | None) -> Preprocessing:
    return Preprocessing(channels, size, False, [0.5] * channels, [0.5] * channels)


def stylizer(channels: int = 3) -> Stylizer:
    torch.manual_seed(0)
    return Stylizer(partial(StyleNet, widths=[4, 6, 8]), "style.png", ClassifierFeatures("run.ckpt"), channels)


@pytest.mark.parametrize("channels", [3, pytest.param(1, marks=pytest.mark.slow)])
def test_exported_stylizer_at_any_size(channels):
    assert difference(stylizer(channels).eval(), how(channels, None), pictures(channels, SIZES)) <= 1


@pytest.mark.slow
def test_program_of_the_docs_paints():
    model, _, file = written(stylizer().eval(), how(3, None))
    image = pictures(3, SIZES)[0]
    assert example(file, image) == []
    painted = np.asarray(Image.open("painted.png")).astype(int)
    assert abs(painted - model.predict([image])[0].permute(1, 2, 0).numpy()).max() <= 1


def test_difference_of_images():
    image = torch.full((2, 3, 4), 100, dtype=torch.uint8)
    other = image.permute(1, 2, 0).clone()
    other[1, 2, 0] -= 7
    assert stylizer().exported().difference({"pictures": other}, image) == 7
