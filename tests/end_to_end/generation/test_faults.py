"""Faults planted in folders of images are found, and clean ones have none."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from photos import picture, write

from kit.checks.survey import full_survey
from kit.cli import verbs
from kit.ground.errors import UserError
from project.generation import ImageFolder

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
    found = [(fault.kind, fault.file, fault.severity) for fault in full_survey(ImageFolder("photos")).faults]
    assert (kind, f"photos/{where}", severity) in found
    assert {name for name, _, _ in found} <= {kind, "leak"}  # the copied class is one of copied images, too
    if kind == "class-unknown":
        with pytest.raises(UserError, match=f"{where}: training has no class 'cow'"):
            ImageFolder("photos").setup("fit")


def test_clean_folders_have_no_faults():
    write()
    assert full_survey(ImageFolder("photos")).faults == []


def test_faults_of_images_without_classes():
    Path("all").mkdir()
    for number in range(24):
        picture(number).save(f"all/{number:02}.jpg", quality=92)
    assert full_survey(ImageFolder("all")).faults == []
    Path("all/05.jpg").write_bytes(Path("all/05.jpg").read_bytes()[:-900])
    shutil.copy("all/03.jpg", "all/copy.jpg")
    Path("all/notes.txt").write_text("of no use")
    found = {(fault.kind, fault.file) for fault in full_survey(ImageFolder("all")).faults}
    assert found == {("unreadable", "all/05.jpg"), ("duplicate", "all/copy.jpg"), ("ignored-file", "all/notes.txt")}


def test_shipped_config_is_checked(tiny, capsys):
    config = CONFIGS / "generation.yaml"
    Path("data").mkdir()
    verbs.check(["--config", str(config), *tiny.arguments(yaml.safe_load(config.read_text()), Path("data"))])
    assert "nothing is wrong" in capsys.readouterr().out
