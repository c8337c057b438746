"""Faults of labels in folders and in tables: a run stops at the first, and a check lists all."""

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from photos import write

from kit.checks.survey import full_survey
from kit.cli import verbs
from kit.ground.errors import UserError
from project.classification import ImageFolder

PLANTS: dict[str, tuple[str, Callable[[], object]]] = {
    "annotation-missing": ("train/x.jpg", lambda: shutil.copy("photos/train/cat/1.jpg", "photos/train/x.jpg")),
    "ignored-file": ("train/cat/x.heic", lambda: Path("photos/train/cat/x.heic").write_bytes(b"x")),
    "class-unknown": ("val/cow", lambda: shutil.copytree("photos/val/cat", "photos/val/cow")),
    "class-empty": ("train/cow", lambda: Path("photos/train/cow").mkdir()),
}
STOPPING = ("class-unknown", "class-empty")


@pytest.fixture(autouse=True)
def photos() -> None:
    write()


@pytest.mark.parametrize("kind", PLANTS)
def test_faults_of_folders(kind):
    where, plant = PLANTS[kind]
    plant()
    found = [(fault.kind, fault.file, fault.severity) for fault in full_survey(ImageFolder("photos")).faults]
    assert (kind, f"photos/{where}", "error" if kind in STOPPING else "warning") in found
    assert {name for name, _, _ in found} <= {kind, "class-missing"}
    if kind in STOPPING:
        with pytest.raises(UserError, match=where):
            ImageFolder("photos").setup("fit")


def test_file_names_without_a_group():
    Path("photos/train/cat/nameless.jpg").write_bytes(Path("photos/train/cat/1.jpg").read_bytes())
    found = {(fault.kind, fault.file) for fault in full_survey(ImageFolder("photos", group=r"^(\d+)")).faults}
    assert ("no-group", "photos/train/cat/nameless.jpg") in found


def test_faults_of_a_table():
    rows = ["path,label,split", "train/cat/0.jpg,cat,train", "train/cat/1.jpg,,train", "train/dog/0.jpg,dog,train"]
    rows += ["train/dog/1.jpg,dog,trial", "gone.jpg,cat,train", "val/cat/0.jpg,cow,val", "val/cat/1.jpg,cat,val,more"]
    Path("photos/labels.csv").write_text("\n".join(rows))
    faults = full_survey(ImageFolder("photos", "table")).faults
    lines = {(fault.kind, fault.line) for fault in faults if fault.line}
    assert lines == {("no-label", 3), ("bad-row", 8), ("unknown-split", 5), ("class-unknown", 7)}
    found = {(fault.kind, fault.file) for fault in faults}
    assert {("image-missing", "photos/gone.jpg"), ("annotation-missing", "photos/val/dog/0.jpg")} <= found
    assert ("annotation-missing", "photos/train/cat/1.jpg") not in found  # its row lacks only the label


def test_split_whose_classes_are_all_unknown():
    rows = ["path,label,split", "train/cat/0.jpg,cat,train", "train/dog/0.jpg,dog,train", "val/cat/0.jpg,cow,val"]
    Path("photos/labels.csv").write_text("\n".join(rows))
    assert [(fault.kind, fault.line) for fault in ImageFolder("photos", "table").annotation_faults() if fault.line] == [
        ("class-unknown", 4)
    ]


def test_faults_of_a_table_without_usable_rows():
    Path("photos/labels.csv").write_text("path,label,split\ntrain/cat/0.jpg,cat,trial\ntrain/cat/1.jpg,,train\n")
    faults = full_survey(ImageFolder("photos", "table")).faults
    assert {(fault.kind, fault.line) for fault in faults} == {("unknown-split", 2), ("no-label", 3), ("unusable", None)}


@pytest.mark.parametrize("text", ["no rows", "path,label\n"])
def test_missing_table_is_one_line(text):
    Path("photos/labels.csv").write_text(text)
    faults = full_survey(ImageFolder("photos", "table")).faults
    assert [fault.kind for fault in faults] == ["unusable"]
    assert "labels.csv" in faults[0].message


def test_check_states_the_size_unless_pretrained_weights_may_change_it(repository, capsys):
    lines = []
    for name, options in (("folder", []), ("finetune", []), ("finetune", ["--data.image_size", "[64, 32]"])):
        config = repository / "configs" / f"classification_{name}.yaml"
        with suppress(SystemExit):
            verbs.check(["--config", str(config), "--data.root", "photos", *options])
        lines.append(capsys.readouterr().out.splitlines()[0])
    assert "chosen from the data" in lines[0] and "resized" not in lines[1] and "resized to 64x32" in lines[2]


def test_wrong_class_gets_a_hint_to_data_modules_only(repository):
    config = repository / "configs" / "classification.yaml"
    with pytest.raises(UserError, match=r"no class 'project\.classification\.Csv'; .*ImageFolder") as raised:
        verbs.check(["--config", str(config), "--data", "project.classification.Csv"])
    assert "Classifier" not in str(raised.value)
