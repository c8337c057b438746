"""Faults of photographs are found, and clean ones have none."""

import shutil
from pathlib import Path

import pytest
import yaml
from photos import picture

from kit.checks.survey import full_survey
from kit.cli import verbs
from project.style import Photos

CONFIG = Path(__file__).parents[3] / "configs" / "style.yaml"


def test_faults_of_photographs():
    Path("all").mkdir()
    for number in range(24):
        picture(number).save(f"all/{number:02}.jpg", quality=92)
    assert full_survey(Photos("all")).faults == []
    Path("all/05.jpg").write_bytes(Path("all/05.jpg").read_bytes()[:-900])
    shutil.copy("all/03.jpg", "all/copy.jpg")
    Path("all/notes.txt").write_text("of no use")
    found = {(fault.kind, fault.file) for fault in full_survey(Photos("all")).faults}
    assert found == {("unreadable", "all/05.jpg"), ("duplicate", "all/copy.jpg"), ("ignored-file", "all/notes.txt")}


def test_check_of_the_config(tiny, capsys):
    Path("data").mkdir()
    words = ["--config", str(CONFIG), *tiny.arguments(yaml.safe_load(CONFIG.read_text()), Path("data"))]
    Path("data/3.png").write_bytes(b"")
    with pytest.raises(SystemExit) as ended:
        verbs.check(words)
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "memory: a training step will take about" in said and "3.png: an empty file" in said
