"""Each net becomes a file, with images of several sizes, grey and coloured."""

import re
import shutil
from functools import partial

import pytest
import torch
from exports import difference, pictures, preprocessing, settled, written
from readme_programs import example
from torch import nn

from kit.exporting import export
from kit.exporting.agreement import as_input
from kit.exporting.graph import open_onnx
from kit.prediction import Predictor
from kit.zoo import TimmDetector, TorchvisionDetector
from project.detection import CnnFcos, Detector

NAMES = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "ssdlite320_mobilenet_v3_large",
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
)
NETS = {"CnnFcos": partial(CnnFcos, widths=[4, 8, 16], depth=1, neck=32)}
NETS |= {name: partial(TorchvisionDetector, name=name) for name in NAMES}
NETS |= {name: partial(TimmDetector, name=name, neck=64) for name in ("test_vit", "test_resnet")}


def detector(name: str, channels: int = 3, **options) -> Detector:
    """With scores that are far from each other, so that rounding does not decide what is found."""
    torch.manual_seed(0)
    task = settled(Detector(NETS[name], 2, channels, class_names=["cat", "dog"], **options), channels)
    for part, module in task.net.named_modules():
        if part.endswith(("cls_logits", "cls_score")) or "classification_head.module_list" in part:
            for layer in module.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    nn.init.normal_(layer.weight, std=2 / layer.weight[0].numel() ** 0.5)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
    if name.startswith("retinanet"):  # else all scores are 1, and which of a thousand are kept is chance
        task.net.net.head.classification_head.cls_logits.weight.data.mul_(0.1)
    if name.startswith("fasterrcnn"):  # whose maps are hundreds times as large as trained ones
        for head in (task.net.net.rpn.head, task.net.net.roi_heads.box_predictor):
            for weights in head.parameters():
                weights.data.mul_(0.01)
    return task


# Of the large ones one number of channels each: those of images are the same matter in all nets.
LARGE = [pytest.param(*case, marks=pytest.mark.slow) for case in zip(NAMES, [1, 3, 3, 1], strict=True)]


TIMM = [pytest.param(name, 3, marks=pytest.mark.slow) for name in ("test_vit", "test_resnet")]


@pytest.mark.parametrize("name, channels", [("CnnFcos", 1), ("CnnFcos", 3), *TIMM, *LARGE])
def test_exported_file_agrees_with_pytorch(name, channels):
    task, how = detector(name, channels), preprocessing(channels, fitted=True)
    images = pictures(channels, grain=32)
    assert sum(len(found["boxes"]) for found in Predictor(task, how).predict(images)) > 5
    assert difference(task, how, images=images) < 0.01


def test_boxes_are_in_pixels_of_the_original_image():
    _, _, file = written(detector("CnnFcos"), preprocessing(fitted=True))
    run = open_onnx(file)
    for image in pictures(3, [(96, 64), (20, 200)]):
        found = run(as_input(image))
        height, width = image.shape[1:]
        assert len(found["boxes"]) and (found["boxes"] >= 0).all() and set(found["labels"].tolist()) <= {1, 2}
        assert (found["boxes"] <= torch.tensor([width, height, width, height])).all()
        assert found["boxes"][:, 2].max() > width / 2 and found["scores"].diff().max() <= 0


def test_flips_are_left_out_with_a_message():
    task = detector("CnnFcos", flips=["horizontal", "both"])
    assert "flips (horizontal, both)" in task.exported().left_out and task.flips == ["horizontal", "both"]
    plain = task.plain()
    assert plain.flips == () and plain.net is task.net and task.flips == ["horizontal", "both"]
    assert difference(task, preprocessing(fitted=True)) < 0.01
    assert not detector("CnnFcos").exported().left_out


def found(*boxes):
    """Of (x1, y1, x2, y2, score, label)."""
    table = torch.tensor(boxes).view(-1, 6)
    return {"boxes": table[:, :4], "scores": table[:, 4], "labels": table[:, 5].long()}


ONE, TWO = (0.0, 0, 10, 10, 0.9, 1), (20.0, 20, 30, 40, 0.5, 2)  # the net's threshold is 0.05
NAN = float("nan")


@pytest.mark.parametrize(
    "file, torch_, apart",
    [
        ([ONE, TWO], [ONE, TWO], 0),
        ([TWO, ONE], [ONE, TWO], 0),
        ([], [], 0),
        ([], [ONE], 1),
        ([ONE], [ONE, TWO], 1),
        ([ONE, ONE], [ONE], 1),  # each has one of its own
        ([ONE], [ONE, (*TWO[:4], 0.055, 2)], 0),  # rounding decides on which side of the threshold it lies
        ([ONE], [ONE, (*TWO[:4], 0.065, 2)], 1),
        ([(0.0, 0, 10, 20, 0.9, 1), TWO], [ONE, TWO], 0.5),
        ([(*ONE[:4], 0.7, 1)], [ONE], 0.2),
        ([(*ONE[:4], 0.9, 2)], [ONE], 1),
        ([(*ONE[:4], NAN, 1)], [ONE], float("inf")),
        ([ONE, (*TWO[:4], NAN, 2)], [ONE], float("inf")),
        ([(0.0, 0, NAN, 10, 0.9, 1)], [ONE], float("inf")),
    ],
)
def test_difference_of_detections(file, torch_, apart):
    exported = Detector(NETS["CnnFcos"], 2, 3).exported()
    assert exported.difference(found(*file), found(*torch_)) == pytest.approx(apart)
    assert exported.difference(found(*torch_), found(*file)) == pytest.approx(apart)


def test_box_without_a_counterpart_takes_none_from_another_box():
    exported, other = Detector(NETS["CnnFcos"], 2, 3).exported(), (50.0, 50, 60, 60, 0.8, 2)
    assert exported.distances(found(other, ONE, TWO), found(TWO, ONE)).tolist() == [1, 0, 0, 0, 0]
    assert exported.distances(found(TWO, ONE), found(other, ONE, TWO)).tolist() == [0, 0, 1, 0, 0]


def test_lowest_scores_may_differ_if_the_limit_of_detections_is_reached():
    net = partial(CnnFcos, widths=[4, 8, 16], depth=1, neck=32)
    exported = Detector(net, 2, 3).exported()
    exported.net.detections_per_img = 2
    other = (40.0, 40, 50, 50, 0.501, 1)
    assert exported.difference(found(ONE, TWO), found(ONE, other)) == 0
    assert exported.difference(found(ONE, TWO), found(ONE)) == 0  # it has room for one more, the other not
    exported.net.detections_per_img = 3  # the net may have returned a third detection, which was in the padding
    assert exported.difference(found(ONE, TWO), found(ONE, other)) == 0
    exported.net.detections_per_img = 5
    assert exported.difference(found(ONE, TWO), found(ONE, other)) == 1


def test_boxes_are_counted():
    exported = Detector(NETS["CnnFcos"], 2, 3).exported()
    assert exported.count(found(ONE, TWO, (*TWO[:4], 0.055, 2))) == 2 and exported.count(found()) == 0


def test_program_of_the_docs():
    model, _, file = written(detector("CnnFcos"), preprocessing(fitted=True))
    image = pictures()[0]
    found = model.predict([image])[0]
    lines = example(file, image)
    assert len(lines) == len(found["boxes"]) > 1
    name, score = lines[0].split()[:2]
    assert name == ["cat", "dog"][found["labels"][0] - 1]
    assert float(score) == pytest.approx(float(found["scores"][0]), abs=1e-3)


def test_export_of_a_run(tiny_run, capsys):
    shutil.copytree(tiny_run, "run")
    export(["run"])
    said = capsys.readouterr().out
    assert said.startswith("run/exports/model.onnx: ")
    assert "IoU" in said and re.search(r" allowed, on [1-9][\d,]* boxes in 12 images of test\n", said)
