"""A table with several labels an image, through all commands."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import starts
import torch
from PIL import Image

from kit.checks.survey import full_survey
from kit.cli import verbs
from kit.exporting import export
from kit.ground.errors import UserError
from kit.prediction.command import predict
from project.classification import ImageFolder

NAMES = ["dark", "noisy", "red"]


@pytest.fixture
def root() -> str:
    """Images whose labels can be seen in them: `red`, `noisy` or `dark`; some have none."""
    random, rows = np.random.default_rng(0), ["path,label,split"]
    Path("photos").mkdir()
    for number in range(96):
        labels = [name for name, bit in zip(NAMES, (1, 2, 4), strict=True) if number % 8 & bit]
        noise = random.integers(-20, 20, (36, 60, 3)) * (3 if "noisy" in labels else 1)
        pixels = noise + (70 if "dark" in labels else 150)
        pixels[..., 0] += 60 * ("red" in labels)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(f"photos/{number}.png")
        rows.append(f"{number}.png,{';'.join(labels)},{'test' if number >= 64 else 'val' if number >= 40 else ''}")
    Path("photos/labels.csv").write_text("\n".join(rows))
    return "photos"


def given(repository: Path, root: str, config: str = "classification_multilabel") -> list[str]:
    data = ["--data", "project.classification.ImageFolder", "--data.root", root, "--data.batch_size", "8"]
    net = ["--model.net.widths", "[8, 16]", "--model.net.depth", "1"]
    return ["--config", str(repository / "configs" / f"{config}.yaml"), *data, *net]


def test_fit_test_predict_export_and_resume(fit, capsys, repository, root):
    starts.goes_all_the_way(fit, capsys, given(repository, root), {})


@pytest.mark.slow
def test_labels_are_learned_and_found_by_all_commands(fit, capsys, repository, root):
    averaged = ["--trainer.callbacks+=kit.training.EMA", "--trainer.callbacks.decay", "0.9"]
    longer = [*averaged, "--trainer.max_epochs", "40", "--early_stopping.patience", "null"]
    run = fit(*given(repository, root), *longer, "--data.augment", "[]")
    results = json.loads((run / "results.json").read_text())
    assert results["test/map"] > 0.95 and results["test/f1"] > 0.9 and "verdict: " in capsys.readouterr().out
    assert {f"test/{key}/{name}" for key in ("map", "f1", "threshold") for name in NAMES} <= set(results)
    thresholds = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]["thresholds"]
    assert [results[f"test/threshold/{name}"] for name in NAMES] == pytest.approx(thresholds.tolist())
    assert 0.5 not in thresholds.tolist()
    verbs.test([str(run)])
    table = dict(line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("test/"))
    assert table == {key: f"{results[key]:.4f}" for key in table} and "test/f1" in table
    predict([str(run), root])
    rows = list(csv.DictReader((run / "predictions/predictions.csv").open()))
    predicted = {Path(row["path"]).stem: row for row in rows}
    right = sum(
        predicted[str(number)]["label"]
        == ";".join(name for name, bit in zip(NAMES, (1, 2, 4), strict=True) if number % 8 & bit)
        for number in range(96)
    )
    assert right > 80
    for row in rows:
        assert len(row["label"].split(";")) == len(row["probability"].split(";"))
    export([str(run)])
    import onnx

    about = {p.key: p.value for p in onnx.load(run / "exports/model.onnx").metadata_props}
    assert json.loads(about["thresholds"]) == pytest.approx(thresholds.tolist())
    assert "Confusion matrix" not in (run / "report.html").read_text()


def test_wrong_task_is_refused_in_one_line(fit, repository, root):
    with pytest.raises(UserError, match="several labels") as raised:
        fit(*given(repository, root, "classification_folder"))
    assert "\n" not in str(raised.value)
    rows = [f"{number}.png,{'ab'[number % 2]}" for number in range(8)]
    Path("photos/labels.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(UserError, match=r"each image has one label.*data\.several_labels"):
        fit(*given(repository, root))
    Path("photos/labels.csv").write_text("\n".join(["path,label", *rows, "8.png,"]))
    run = fit(*given(repository, root), "--data.several_labels", "true", "--trainer.max_epochs", "1")
    verbs.test([str(run), "--data.root", root])


def test_check_counts_images_without_labels(root):
    survey = full_survey(ImageFolder(root))
    assert survey.notes == ["images without any label: 5 in train, 3 in val, 4 in test"] and not survey.errors
    assert not any(fault.kind == "no-label" for fault in survey.faults)
    lines = Path("photos/labels.csv").read_text().splitlines()
    shutil.copy("photos/1.png", "photos/copy.png")
    Path("photos/labels.csv").write_text("\n".join([*lines, "copy.png,dark;red,"]))  # 1.png is dark
    assert [fault.kind for fault in full_survey(ImageFolder(root)).faults if fault.severity == "error"] == [
        "label-conflict"
    ]


def test_test_on_other_data_uses_the_size_and_the_labels_of_the_run(fit, capsys, repository, root):
    run = fit(*given(repository, root), "--trainer.max_epochs", "1")
    state = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["ImageFolder"]
    assert state["size"] == (32, 64) and state["several_labels"]
    Path("other").mkdir()
    for number in range(4):
        Image.new("RGB", (90, 200)).save(f"other/{number}.png")
    Path("other/labels.csv").write_text("path,label\n0.png,red\n1.png,\n2.png,dark\n3.png,noisy\n")  # one label each
    capsys.readouterr()
    verbs.test([str(run), "--data.root", "other"])
    assert "test/map " in capsys.readouterr().out
    data = ImageFolder("other")
    data.load_state_dict(state)
    data.setup("test")
    assert data.samples["val"].read(0).shape[1:] == (32, 64)
    assert data.samples["val"].targets.shape[1] == 3


@pytest.mark.slow
def test_resumed_run_keeps_its_size_on_changed_images(fit, repository, root):
    run = fit(*given(repository, root), "--trainer.max_epochs", "1")
    for file in Path(root).glob("*.png"):
        Image.open(file).resize((130, 90)).save(file)
    fit("--resume", str(run), "--trainer.max_epochs", "2", "--force", "true")
    assert torch.load(run / "checkpoints/last.ckpt", weights_only=True)["ImageFolder"]["size"] == (32, 64)
