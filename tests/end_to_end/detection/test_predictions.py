"""Images to boxes in their own pixels, by the run folder alone."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2.functional import to_pil_image

import project
from kit.boxes.predictions import BoxPredictions
from kit.data import Preprocessing
from kit.prediction import Predictor, predict
from project.detection.task import Detector


class Finder(torch.nn.Module):
    """Finds the part of an image that is brighter than its mean; the backbone is what the protocol asks for."""

    backbone, additive = torch.nn.Identity(), True

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, images):
        found = []
        for image in images:
            rows, columns = ((image.mean(0) > 0).any(dim).nonzero().flatten() for dim in (1, 0))
            box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            boxes = torch.tensor([[0, 0, 2, 2], box, [0, 0, 1, 1]]).float()
            found.append(
                {
                    "boxes": boxes,
                    "scores": torch.tensor([0.3, 0.9, 0.1]),
                    "labels": torch.tensor([1, self.num_classes, 1]),
                }
            )
        return found


def finder(size: tuple[int, int]) -> Predictor:
    task = Detector(Finder, num_classes=3, in_channels=3, class_names=["cat", "dog", "owl"])
    return Predictor(task, Preprocessing(3, size, True, [0.5] * 3, [0.5] * 3))


@pytest.mark.parametrize("size", [(40, 40), (20, 64), (64, 20), (120, 200)])
def test_boxes_are_in_pixels_of_the_image(size):
    """A white field in a black photograph of 60x100, however it was fitted into the net's size."""
    image = torch.zeros(3, 60, 100, dtype=torch.uint8)
    image[:, 10:40, 20:80] = 255
    (found,) = finder(size).predict([image])
    assert found["scores"].tolist() == pytest.approx([0.9, 0.3, 0.1])
    assert found["labels"].tolist() == [3, 1, 1]
    assert (found["boxes"][0] - torch.tensor([20.0, 10, 80, 40])).abs().max() < 100 / min(size) + 1


def test_coco_results_and_pictures():
    results = BoxPredictions(Path(), ["cat", "dog"])
    found = {"boxes": torch.tensor([[2.0, 3, 10, 8.254]]), "scores": torch.tensor([0.75]), "labels": torch.tensor([2])}
    nothing = {key: value[:0] for key, value in found.items()}
    to_pil_image(torch.zeros(3, 300, 400, dtype=torch.uint8)).save("0042.png")
    for name, this in (("0042", found), ("more/7a", nothing), ("more/8", found)):
        results.write_files(Path("0042.png"), name, this)
        results.add(Path(f"{name}.png"), name, this)
    assert results.finish() == [Path("predictions.json"), Path("pictures")]
    listed = json.loads(Path("predictions.json").read_text())
    assert [result["image_id"] for result in listed] == [42, "more/8"]
    assert listed[0] == {"image_id": 42, "file_name": "0042.png", "category_id": 2, "category": "dog",
                         "bbox": [2.0, 3.0, 8.0, 5.25], "score": 0.75}  # fmt: skip
    drawn = {path.as_posix(): Image.open(path).convert("L").getextrema()[1] for path in Path().rglob("*.jpg")}
    assert set(drawn) == {"pictures/0042.jpg", "pictures/more/7a.jpg", "pictures/more/8.jpg"}
    assert drawn["pictures/0042.jpg"] > 50 and drawn["pictures/more/7a.jpg"] < 10
    assert not list(Path().rglob("*.part*"))


def test_image_ids_are_unique():
    results = BoxPredictions(Path(), ["cat"], pictures=False)
    found = {"boxes": torch.ones(1, 4), "scores": torch.ones(1), "labels": torch.ones(1, dtype=torch.long)}
    names = ["0001", "1", "\u0661", "000000397133", "-3", "1.0", "a/2", "2", "1"]
    for name in names:
        results.add(Path(f"{name}.png"), name, found)
    results.finish()
    ids = [result["image_id"] for result in json.loads(Path("predictions.json").read_text("utf-8"))]
    assert ids == [1, "1", "\u0661", 397133, "-3", "1.0", "a/2", 2, "1"]


def test_undecodable_file_name():
    results = BoxPredictions(Path(), ["cat"], pictures=False)
    found = {"boxes": torch.ones(1, 4), "scores": torch.ones(1), "labels": torch.ones(1, dtype=torch.long)}
    results.add(Path("\udcff.png"), "\udcff", found)
    results.finish()
    assert json.loads(Path("predictions.json").read_text("utf-8"))[0]["file_name"] == "\udcff.png"


def test_picture_of_a_narrow_image():
    results = BoxPredictions(Path(), ["cat"])
    Image.new("RGB", (2000, 2)).save("strip.png")
    results.write_files(Path("strip.png"), "strip", {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0),
                                                 "labels": torch.zeros(0, dtype=torch.long)})  # fmt: skip
    assert Image.open("pictures/strip.jpg").width == 8000


@pytest.mark.parametrize(("score", "seen"), [(0.7, True), (0.8, False)])
def test_score_option_applies_to_pictures_only(score, seen):
    results = BoxPredictions(Path(), ["cat", "dog"], score=score)
    found = {"boxes": torch.tensor([[20.0, 30, 100, 200]]), "scores": torch.tensor([0.75]), "labels": torch.tensor([2])}
    Image.new("RGB", (400, 300)).save("a.png")
    results.write_files(Path("a.png"), "a", found)
    results.add(Path("a.png"), "a", found)
    results.finish()
    assert (Image.open("pictures/a.jpg").convert("L").getextrema()[1] > 50) is seen
    assert len(json.loads(Path("predictions.json").read_text())) == 1


def test_threshold_of_the_model_is_the_default_of_pictures(monkeypatch):
    model = finder((40, 40))
    model.task.threshold.fill_(0.25)
    monkeypatch.setattr("kit.prediction.command.load", lambda *_: model)
    monkeypatch.setattr("kit.prediction.command.checkpoint.find", Path)
    Image.new("RGB", (40, 40)).save("a.png")
    scores = []
    monkeypatch.setattr(
        "kit.boxes.predictions.draw_boxes",
        lambda image, *_, min_score: scores.append(min_score) or image,
    )
    white = torch.zeros(3, 40, 40, dtype=torch.uint8)
    white[:, 10:20, 10:30] = 255
    to_pil_image(white).save("a.png")
    predict(["run", "a.png", "--out", "one"])
    predict(["run", "a.png", "--out", "two", "--score", "0.7"])
    assert scores == [0.25, 0.7]
    assert len(json.loads(Path("one/predictions.json").read_text())) == 3  # all boxes


def test_predictions_without_boxes():
    results = BoxPredictions(Path(), ["cat"], pictures=False)
    assert results.finish() == [Path("predictions.json")]
    assert json.loads(Path("predictions.json").read_text()) == []


def test_predict_by_command_line_and_python(tiny_run):
    for number, size in enumerate([(96, 64), (200, 210), (31, 47)]):
        Image.new("RGB", size, (90, 60 * number, 50)).save(f"{number}.png")
    predict([str(tiny_run), "0.png", "1.png", "2.png", "--out", "out"])
    listed = json.loads(Path("out/predictions.json").read_text())
    model = project.load(tiny_run)
    found = model.predict(["0.png", "1.png", "2.png"])
    assert len(listed) == sum(len(one["scores"]) for one in found)
    assert {result["category"] for result in listed} <= set(model.class_names)
    assert len(list(Path("out/pictures").iterdir())) == 3
