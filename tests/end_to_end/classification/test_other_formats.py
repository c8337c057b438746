"""`test RUN --data OTHER`: a model is tested on data of another format. Classes are found by their names."""

import shutil
from pathlib import Path

import pytest

from kit.cli import verbs
from kit.ground.errors import UserError
from project.classification import Digits, DigitScenes, ImageFolder

STATE = {"in_channels": 3, "mean": [0.5] * 3, "std": [0.5] * 3}


def write_table(root: Path) -> None:
    paths = [path.relative_to(root) for path in sorted(root.rglob("*.png"))]
    (root / "labels.csv").write_text("\n".join(["path,label", *(f"{path},{path.parent.name}" for path in paths)]))


@pytest.mark.parametrize("format", ["folders", "table"])
def test_numbers_are_those_of_the_model(image_folder, format):
    root = image_folder({".": {"b": 2, "c": 3}}, grey=True)
    write_table(root)
    data = ImageFolder(str(root), format, (8, 8))
    data.load_state_dict({**STATE, "class_names": ["c", "x", "b"]})
    data.all_is_test = True
    data.setup("test")
    assert data.samples["test"].targets.tolist() == [2, 2, 0, 0, 0]
    assert data.samples["test"].read(0).shape == (3, 8, 8)


def test_model_of_another_format_is_tested(tiny_run, image_folder, capsys):
    root = image_folder({".": {"7": 3, "3": 3}}, grey=True)
    write_table(root)
    printed = []
    for format in ("folders", "table"):
        data = ["--data", "project.classification.ImageFolder", "--data.format", format, "--data.root", str(root)]
        verbs.test([str(tiny_run), *data])
        printed.append(capsys.readouterr().out)
    Path("data.yaml").write_text(
        f"data: {{class_path: project.classification.ImageFolder, init_args: {{root: {root}, format: table}}}}"
    )
    verbs.test([str(tiny_run), "--config", "data.yaml"])
    printed.append(capsys.readouterr().out)
    assert "test/accuracy " in printed[0] and printed[0] == printed[1] == printed[2]
    (root / "7").rename(root / "cat")
    with pytest.raises(UserError, match="'cat'"):
        verbs.test([str(tiny_run), *data[:2], "--data.format", "folders", "--data.root", str(root)])


def test_data_with_fixed_numbers_must_have_the_classes_of_the_model():
    data = Digits()
    data.load_state_dict(
        {"in_channels": 1, "mean": [0.5], "std": [0.5], "class_names": [str(digit) for digit in range(9, -1, -1)]}
    )
    with pytest.raises(UserError, match=r"0, 1, .*9, 8, "):
        data.setup("test")


@pytest.mark.parametrize(("kind", "several"), [(Digits, True), (DigitScenes, False)])
def test_data_of_a_fixed_kind_are_refused_by_a_model_of_the_other_kind(kind, several):
    names = [str(digit) for digit in range(10)]
    with pytest.raises(UserError, match=r"one label.*several|several labels.*one"):
        kind().load_state_dict({**STATE, "class_names": names, "several_labels": several})


def test_run_of_folders_with_options_is_tested_on_a_table(fit, image_folder, capsys, tmp_path):
    root = image_folder({".": {"b": 3, "c": 3}})
    for file in list(root.rglob("*.png")):
        file.rename(file.with_name(f"p{file.name}"))
    write_table(root)
    given = ["--data", "project.classification.ImageFolder", "--data.root", str(root), "--trainer.max_epochs", "1"]
    given += ["--model.net.widths", "[4]", "--check", "off"]
    run = fit(*given, "--data.format", "folders", "--data.group", r"^(p.+)\.")
    (tmp_path / "other").mkdir()
    rows = []
    for file in root.rglob("*.png"):
        shutil.copy(file, tmp_path / "other" / f"{file.parent.name}{file.name}")
        rows.append(f"{file.parent.name}{file.name},{file.parent.name}")
    (tmp_path / "other" / "labels.csv").write_text("\n".join(["path,label", *rows]))
    verbs.test([str(run), "--data.root", str(tmp_path / "other")])
    assert "test/accuracy " in capsys.readouterr().out
    with pytest.raises(UserError, match=r"data\.group"):
        verbs.test([str(run), "--data.root", str(tmp_path / "other"), "--data.group", "^(p)"])
    with pytest.raises(UserError, match=r"--data\.format"):  # the run's own folder still holds both
        verbs.test([str(run), "--data.format", "null"])
    verbs.test([str(run), "--data.format", "table"])
