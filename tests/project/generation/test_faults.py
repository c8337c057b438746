"""Faults planted in folders of images are found, and clean ones have none."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from photos import picture, write

from kit.checks.survey import thorough
from kit.cli import verbs
from kit.ground.errors import UserError
from project.generation import ImageFolder
from project.generation import Photos as StylePhotos

CONFIGS = Path(__file__).parents[3] / "configs"
PLANTS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "unreadable": ("error", "val/dog/x.jpg", lambda file: file.write_bytes(whole()[:-900])),
    "empty": ("error", "train/cat/x.jpg", lambda file: file.write_bytes(b"")),
    "leak": ("error", "val/cat/x.jpg", lambda file: shutil.copy("photos/train/cat/3.jpg", file)),
    "label-conflict": ("error", "train/dog/x.jpg", lambda file: shutil.copy("photos/train/cat/3.jpg", file)),
    "duplicate": ("warning", "train/cat/x.jpg", lambda file: shutil.copy("photos/train/cat/3.jpg", file)),
    "class-unknown": ("error", "val/cow", lambda file: shutil.copytree("photos/val/cat", file)),
    "annotation-missing": ("warning", "train/x.jpg", lambda file: picture(99).save(file)),
    "ignored-file": ("warning", "train/cat/x.heic", lambda file: file.write_bytes(b"x")),
}


def whole() -> bytes:
    return Path("photos/train/cat/3.jpg").read_bytes()


@pytest.mark.parametrize("kind", PLANTS)
def test_faults_of_folders_of_classes(kind):
    write()
    severity, where, plant = PLANTS[kind]
    plant(Path("photos", where))
    found = [(fault.kind, fault.file, fault.severity) for fault in thorough(ImageFolder("photos")).faults]
    assert (kind, f"photos/{where}", severity) in found
    assert {name for name, _, _ in found} <= {kind, "leak"}  # the copied class is one of copied images, too
    if kind == "class-unknown":
        with pytest.raises(UserError, match=f"{where}: the model has no class 'cow'"):
            ImageFolder("photos").setup("fit")


def test_clean_folders_have_none():
    write()
    assert thorough(ImageFolder("photos")).faults == []


@pytest.mark.parametrize("kind", [ImageFolder, StylePhotos])
def test_faults_of_images_without_classes(kind):
    Path("all").mkdir()
    for number in range(24):
        picture(number).save(f"all/{number:02}.jpg", quality=92)
    assert thorough(kind("all")).faults == []
    Path("all/05.jpg").write_bytes(Path("all/05.jpg").read_bytes()[:-900])
    shutil.copy("all/03.jpg", "all/copy.jpg")
    Path("all/notes.txt").write_text("of no use")
    found = {(fault.kind, fault.file) for fault in thorough(kind("all")).faults}
    assert found == {("unreadable", "all/05.jpg"), ("duplicate", "all/copy.jpg"), ("ignored-file", "all/notes.txt")}


@pytest.mark.parametrize("name", ["generation", "generation_style"])
def test_a_config_is_checked_and_its_memory_predicted(name, tiny, capsys):
    config = CONFIGS / f"{name}.yaml"
    Path("data").mkdir()
    words = ["--config", str(config), *tiny.arguments(yaml.safe_load(config.read_text()), Path("data"))]
    if name == "generation_style":
        Path("data/3.png").write_bytes(b"")
        with pytest.raises(SystemExit) as ended:
            verbs.check(words)
        assert ended.value.code == 1
    else:
        verbs.check(words)
    said = capsys.readouterr().out
    assert "memory: a training step will take about" in said
    assert ("3.png: an empty file" in said) == (name == "generation_style")
