"""Images to masks of their own size, by the run folder alone."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import project
from kit.data import Preprocessing
from kit.formats.masks.classes import read_table
from kit.masks.predictions import MaskPredictions
from kit.prediction import Predictor, predict
from project.segmentation.task import Segmenter, predicted_classes


class Shade(torch.nn.Module):
    """Bright pixels are class 2, dark ones class 0."""

    def __init__(self, num_classes, in_channels):
        super().__init__()

    def forward(self, images):
        bright = images.mean(1)
        return torch.stack([-bright, torch.full_like(bright, -9), bright], 1)


def shade(size: tuple[int, int] | None, keep_aspect: bool) -> Predictor:
    task = Segmenter(Shade, num_classes=3, in_channels=3, class_names=["road", "tree", "sky"])
    return Predictor(task, Preprocessing(3, size, keep_aspect, [0.5] * 3, [0.5] * 3))


@pytest.mark.parametrize("keep_aspect", [False, True])
@pytest.mark.parametrize("size", [None, (30, 50), (60, 100), (64, 64), (200, 150)])
def test_mask_is_aligned_with_the_image(size, keep_aspect):
    """A white field in a black photograph of 60x100, however it was resized for the net."""
    image = torch.zeros(3, 60, 100, dtype=torch.uint8)
    image[:, 10:40, 20:80] = 255
    (mask,) = shade(size, keep_aspect).predict([image])
    assert mask.shape == (60, 100) and mask.dtype == torch.uint8
    wanted = (image[0] > 0) * 2
    assert (mask != wanted).sum() <= (0 if size in (None, (60, 100)) else 200)
    assert mask[12:38, 22:78].eq(2).all()


def test_predicted_classes_equal_argmax():
    logits = torch.randn(5, 7, 9, generator=torch.Generator().manual_seed(0))
    for size in ((7, 9), (20, 31), (4, 5)):
        whole = F.interpolate(logits[None], size, mode="bilinear").argmax(1)[0]
        assert torch.equal(predicted_classes(logits, size).long(), whole)


def test_index_images_with_a_palette_and_pictures():
    results = MaskPredictions(Path("out"), ["road", "traffic sign"])
    Image.new("RGB", (300, 200), (80, 80, 80)).save("photo.png")
    mask = torch.zeros(200, 300, dtype=torch.uint8)
    mask[50:90, 100:200] = 1
    results.write_files(Path("photo.png"), "deep/photo", mask)
    results.add(Path("photo.png"), "deep/photo", mask)
    assert results.finish() == [Path("out/masks"), Path("out/pictures")]
    saved = Image.open("out/masks/deep/photo.png")
    assert saved.mode == "P" and np.array_equal(np.array(saved), mask.numpy())
    entries = read_table(Path("out/masks/classes.txt"))
    assert [entry.name for entry in entries] == ["road", "traffic sign"]
    colours = np.array(saved.convert("RGB"))
    assert tuple(colours[0, 0]) == entries[0].colour and tuple(colours[60, 150]) == entries[1].colour
    drawn = np.array(Image.open("out/pictures/deep/photo.jpg")).astype(int)
    assert np.abs(drawn[60, 150] - drawn[10, 10]).sum() > 60
    assert not list(Path("out").rglob("*.part*"))


def test_predict_by_command_line_and_python(tiny_run):
    sizes = {"a": (64, 64), "b": (200, 90)}
    for name, size in sizes.items():
        Image.new("RGB", size, (90, 160, 50)).save(f"{name}.png")
    predict([str(tiny_run), "a.png", "b.png", "--out", "out", "--pictures", "false"])
    for name, found in zip(sizes, project.load(tiny_run).predict(["a.png", "b.png"]), strict=True):
        assert np.array_equal(np.array(Image.open(f"out/masks/{name}.png")), found.numpy())
        assert tuple(found.shape) == sizes[name][::-1]
    assert not Path("out/pictures").exists()
