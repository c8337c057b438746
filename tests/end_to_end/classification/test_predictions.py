"""Images to classes, by the run folder alone, when the training data are gone."""

import csv
import shutil
from pathlib import Path

import pytest
import torch

import project
from kit.cli import process, verbs
from kit.ground.errors import UserError
from kit.prediction import predict


@pytest.fixture
def run(once, image_folder):
    root = image_folder({"train": {"dark": 30, "light": 30}}, size=(12, 10))
    shutil.copytree(root / "train", "mine")

    def make():
        shutil.copytree(root, "photos")
        process.quiet()
        verbs.fit(["--config", str(Path(__file__).parents[3] / "configs" / "classification_folder.yaml"),
                   "--data.root", "photos", "--trainer.max_epochs", "3",
                   "--data.image_size", "[12, 10]", "--data.augment", "[]",
                   "--model.net.widths", "[8]", "--model.net.stem_stride", "1"])  # fmt: skip
        shutil.rmtree("photos")

    return once("classification_photos", make) / "runs/classification_folder/version_0"


def test_table_of_predictions(run):
    predict([str(run), "mine", "--out", "out"])
    rows = list(csv.DictReader(Path("out/predictions.csv").read_text().splitlines()))
    assert list(rows[0]) == ["path", "class", "probability", "class_2", "probability_2"]
    assert len(rows) == 60
    assert sum(Path(row["path"]).parent.name == row["class"] for row in rows) >= 57
    for row in rows:
        one, other = float(row["probability"]), float(row["probability_2"])
        assert one >= other and one + other == pytest.approx(1, abs=2e-6)
    assert not list(Path("out").glob("*.part*"))


def test_top_limits_the_number_of_classes(run):
    predict([str(run), "mine/dark/0.png", "--out", "out", "--top", "1"])
    assert Path("out/predictions.csv").read_text().splitlines()[0] == "path,class,probability"
    with pytest.raises(UserError, match="top is "):
        predict([str(run), "mine/dark/0.png", "--out", "out", "--top", "0"])


def test_undecodable_file_name(run):
    name = Path("mine/dark/\udcff.png")
    Path("mine/dark/0.png").rename(name)
    predict([str(run), str(name), "--out", "out"])
    assert Path("out/predictions.csv").read_text("utf-8").splitlines()[1].startswith(r"mine/dark/\udcff.png,dark,")


def test_predictions_from_python_are_the_same(run):
    predict([str(run), "mine", "--out", "out"])
    model = project.load(run)
    rows = list(csv.DictReader(Path("out/predictions.csv").read_text().splitlines()))
    for row, found in zip(rows, model.predict([row["path"] for row in rows]), strict=True):
        assert found.label == row["class"] == model.class_names[int(found.probabilities.argmax())]
        assert found.probability == pytest.approx(float(row["probability"]), abs=1e-5)
        assert torch.isclose(found.probabilities.sum(), torch.tensor(1.0))
