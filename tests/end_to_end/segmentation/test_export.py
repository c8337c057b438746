"""Each net becomes a file, with images of several sizes, grey and coloured."""

import shutil
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from exports import difference, pictures, preprocessing, settled, written
from PIL import Image
from readme_programs import example

from kit.exporting import export
from kit.zoo import SmpNet, TorchvisionSegmenter
from project.segmentation import CnnUnet, Segmenter

NETS = {
    "CnnUnet": partial(CnnUnet, widths=[4, 8, 8]),
    "CnnUnet, no stride": partial(CnnUnet, widths=[4, 8], stem_stride=1),
    "lraspp": TorchvisionSegmenter,
    "smp unet": SmpNet,
}
HOWS = {
    "stretched": preprocessing(3),
    "fitted": preprocessing(3, fitted=True),
    "grey": preprocessing(1),
    "of any size": preprocessing(3, None),
}
ODD = [(37, 51), (64, 96), (70, 45)]


def segmenter(name: str, channels: int = 3, **options) -> Segmenter:
    torch.manual_seed(0)
    if name.startswith("smp"):
        pytest.importorskip("segmentation_models_pytorch")
    return settled(Segmenter(NETS[name], 3, channels, class_names=["sky", "road", "car"], **options), channels)


QUICK = [("CnnUnet", how) for how in HOWS]
QUICK += [("CnnUnet, no stride", "stretched")]


@pytest.mark.parametrize(
    ("name", "how"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.slow) for case in product(NETS, HOWS)],
)
def test_exported_file_agrees_with_pytorch(name, how):
    images = pictures(3, ODD) if how == "of any size" else None
    assert difference(segmenter(name, HOWS[how].channels), HOWS[how], images=images) <= 0.001


def test_windows_are_left_out_with_a_message():
    task = segmenter("CnnUnet", window=(24, 32))
    exported = task.exported()
    assert "window [24, 32]" in exported.left_out and task.window == (24, 32)
    plain = task.plain()
    assert plain.window is None and plain.net is task.net and task.window == (24, 32)
    assert difference(task, HOWS["fitted"]) <= 0.001
    assert not segmenter("CnnUnet").exported().left_out


def test_difference_of_masks():
    exported = segmenter("CnnUnet").exported()
    mask = torch.zeros(4, 5, dtype=torch.uint8)
    other = mask.clone()
    other[0, 0] = 1
    assert exported.difference({"masks": other}, mask) == pytest.approx(1 / 20)
    assert exported.difference({"masks": mask.T}, mask) == float("inf")


def test_program_of_the_docs():
    model, _, file = written(segmenter("CnnUnet"), preprocessing(fitted=True))
    image = pictures()[0]
    assert example(file, image) == []
    assert np.array_equal(np.asarray(Image.open("mask.png")), model.predict([image])[0].numpy())


def test_export_of_a_run(tiny_run, capsys):
    shutil.copytree(tiny_run, "run")
    export(["run"])
    said = capsys.readouterr().out
    assert said.startswith("run/exports/model.onnx: ") and "0.001 allowed, on 7 images of test" in said
