"""Names of files and classes that are not UTF-8 go through a run, its reports, and `check`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OPTIONS = ["--config", "configs/classification_folder.yaml", "--data.image_size", "[6,8]", "--data.augment", "[]",
           "--model.net.widths", "[4]", "--trainer.max_epochs", "1", "--data.root", "photos"]  # fmt: skip


@pytest.fixture
def photos(image_folder, repository) -> None:
    """Writes class folders, of which one and the files in it have names with a byte that is not UTF-8."""
    root = image_folder({"train": {"a": 8, "b": 8}, "test": {"a": 3, "b": 2}})
    for folder in root.glob("*/b"):
        for file in folder.iterdir():
            file.rename(folder / f"\udce9{file.name}")
        folder.rename(folder.with_name("caf\udce9"))
    (root / "test" / "a" / "broken\udcff.png").write_text("no image")
    Path("configs").symlink_to(repository / "configs")


def test_names_that_are_not_utf_8(photos, fit, command, tmp_path):
    run = fit(*OPTIONS, "--data.cache", "disk", "--trainer.default_root_dir", str(tmp_path / "runs"))
    assert r"test/accuracy/caf\xe9" in json.loads((run / "results.json").read_text())
    assert "broken" in (run / "report.html").read_text(encoding="utf-8")
    (*_, text) = EventAccumulator(str(run)).Reload().Tensors("report/text_summary")
    assert rb"broken\xff.png" in text.tensor_proto.string_val[0]
    assert command("check", *OPTIONS, "--json", "check.json", "--html", "check.html").returncode == 1
    assert "photos/test/a/broken\udcff.png" in [fault["file"] for fault in json.loads(Path("check.json").read_text())]
    assert r"broken\xff.png" in Path("check.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0"}])
def test_terminal_that_lacks_the_characters_of_a_name(photos, variables):
    Path("photos/train/a").rename("photos/train/h\u00e4user")
    Path("photos/test/a").rename("photos/test/h\u00e4user")
    environment = {**os.environ, **variables, "PYTHONCOERCECLOCALE": "0"}
    run = subprocess.run(
        [sys.executable, "-m", "project.check", *OPTIONS], env=environment, capture_output=True, check=False
    )
    assert run.returncode == 1 and rb"h\xe4user" in run.stdout and not run.stderr
