"""Exported files preprocess images as the task does."""

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from exports import pictures, preprocessing
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from kit.data.decode import fitted_size
from kit.exporting.agreement import as_input
from kit.exporting.graph import Graph, MatrixPool, open_onnx, replace_pools, traced_fitted_size, write_onnx
from kit.task import ExportedModule

SIZES = [(48, 64), (31, 50), (90, 41), (7, 200), (131, 175)]
HOWS = [
    preprocessing(3, (48, 64)),
    preprocessing(1, (48, 64)),
    preprocessing(3, (40, 56), fitted=True),
    preprocessing(1, (56, 40), fitted=True),
    preprocessing(3, None),
]


class Pixels(ExportedModule):
    """A task that returns its input."""

    task = "looking"
    outputs: ClassVar = {"pixels": {0: "batch", 2: "height", 3: "width"}}

    def forward(self, images, size, area):
        return (images,)


side = st.integers(1, 3000)


@given(side, side, st.tuples(st.integers(1, 700), st.integers(1, 700)))
def test_traced_size_equals_fitted_size(height, width, outer):
    assert traced_fitted_size((height, width), outer) == fitted_size((height, width), outer)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_graph_preprocesses_as_preprocessing_does(how):
    for image in pictures(how.channels, SIZES):
        expected = how.normalise(how.read(image)[0][None])
        assert torch.allclose(Graph(how, Pixels(nn.Identity()))(as_input(image))[0], expected, atol=1e-5)


@pytest.mark.parametrize("how", HOWS, ids=str)
def test_file_preprocesses_as_preprocessing_does(how, tmp_path):
    """onnxruntime rounds halves differently, so that some pixels differ by one or two."""
    write_onnx(how, Pixels(nn.Identity()), {}, tmp_path / "file")
    run = open_onnx(tmp_path / "file")
    std = torch.tensor(how.std).view(-1, 1, 1)
    for image in pictures(how.channels, SIZES):
        expected = how.normalise(how.read(image)[0][None])[0]
        levels = (run(as_input(image))["pixels"][0] - expected).mul(255 * std).abs()
        assert levels.max() < 2.01 and levels.mean() < 0.1
    both = torch.cat([as_input(image) for image in pictures(how.channels, SIZES[:1] * 3)])
    assert len(run(both)["pixels"]) == 3


def test_enlarging_by_whole_numbers_is_exact(tmp_path):
    how = preprocessing(3, (64, 96), fitted=True)
    write_onnx(how, Pixels(nn.Identity()), {}, tmp_path / "file")
    run = open_onnx(tmp_path / "file")
    for image in pictures(3, [(64, 96), (32, 48), (16, 24), (16, 8), (1, 1)]):
        expected = how.normalise(how.read(image)[0][None])[0]
        assert torch.allclose(run(as_input(image))["pixels"][0], expected, atol=1e-5)


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (7, 2), (3, None)])
def test_pool_equals_adaptive_average_pooling(size):
    net = replace_pools(nn.Sequential(nn.AdaptiveAvgPool2d(size), nn.AdaptiveAvgPool2d(1)))
    maps = torch.randn(2, 3, 14, 9)
    assert isinstance(net[0], MatrixPool) and isinstance(net[1], nn.AdaptiveAvgPool2d)
    assert torch.allclose(net[0](maps), nn.AdaptiveAvgPool2d(size)(maps), atol=1e-6)


class Embedded(ExportedModule):
    """A task that adds resized position embeddings to its input, as vision transformers do."""

    task = "looking"
    outputs: ClassVar = {"pixels": {0: "batch"}}

    def forward(self, images, size, area):
        return (images + F.interpolate(self.net, images.shape[-2:], mode="bicubic", antialias=True),)


@pytest.mark.parametrize("size", [(5, 7), (9, 9), (20, 13), (3, 30)])
def test_position_embeddings_are_resized_as_in_pytorch(size):
    exported = Embedded(nn.Parameter(torch.randn(1, 3, 9, 9)))
    how = preprocessing(3, size)
    write_onnx(how, exported, {}, Path("model.onnx"))
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    expected = Graph(how, exported)(as_input(image))[0]
    assert torch.allclose(open_onnx(Path("model.onnx"))(as_input(image))["pixels"], expected, atol=1e-4)
