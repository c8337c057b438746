"""The verb `report`: a run's page again, and the comparison of runs."""

import shutil
from pathlib import Path

import pytest
import yaml
from tiny_run import made_once

from kit.cli.reporting import report
from kit.ground.errors import UserError

TINY = {
    "name": "tiny",
    "trainer": {"max_epochs": 3, "accelerator": "cpu"},
    "model": {"class_path": "tiny_task.Drawn", "init_args": {"lr": 0.05}},
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8, "train": 40, "val": 21}},
}


@pytest.fixture
def run(once) -> Path:
    """A copy of a run that has ended."""
    source, copy = made_once(once, "reported", yaml.safe_dump(TINY)), Path("runs/tiny/version_0")
    shutil.copytree(source, copy)
    return copy


def files(folder: Path) -> dict[str, bytes]:
    names = ("*.html", "*.json", "pictures/*")
    return {str(file): file.read_bytes() for name in names for file in folder.glob(name)}


def test_page_of_a_run_is_written_again(run, capsys):
    before = files(run)
    assert len(before) == 10 and b"verdict: " in before[str(run / "report.html")]
    (run / "report.html").unlink()
    (run / "pictures/worst.jpg").unlink()
    (run / "pictures/confusion.png").write_bytes(b"damaged")
    report([str(run)])
    assert files(run) == before
    assert "test/accuracy" in capsys.readouterr().out


def test_runs_are_compared_without_their_checkpoints(run, capsys):
    other = run.with_name("version_1")
    shutil.copytree(run, other)
    shutil.rmtree(run / "checkpoints")
    before = files(run)
    report([str(run), str(other)])
    page = Path("comparison.html").read_text()
    assert "<td class=number>2: tiny/version_1</td>" in page and page.count("data:image/png") == 3
    assert "comparison.html" in capsys.readouterr().out and files(run) == before
    report([str(run), str(other), "--html", "deep/er/page.html"])
    assert Path("deep/er/page.html").read_text() == page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "which run"),
        (["runs/tinny/version_0"], "no run folder or checkpoint at .*tinny"),
        (["empty"], "empty"),
        (["runs/tiny/version_0", "empty"], "empty"),
        (["runs/tiny/version_0", "stopped"], "stopped has no results.json"),
        (["stopped"], "stopped has no results.json"),
        (["without_history"], "without_history has no history.json"),
        (["runs/tiny/version_0/checkpoints/last.ckpt"], "last.ckpt is no run folder"),
        ([f"copy_{k}" for k in range(11)], "11 runs are too many"),
        (["runs/tiny/version_0", "runs/tiny/version_1", "--htm", "a.html"], "htm"),
        (["runs/tiny/version_0", "runs/tiny/version_1", "--html", "empty"], "empty cannot be written"),
    ],
)
def test_mistake_is_one_line(words, message, run):
    Path("empty").mkdir()
    shutil.copytree(run, run.with_name("version_1"))
    shutil.copytree(run, "stopped")
    Path("stopped/results.json").unlink()
    shutil.copytree(run, "without_history")
    Path("without_history/history.json").unlink()
    before = files(Path("without_history"))
    for k in range(11):
        Path(f"copy_{k}").mkdir()
        shutil.copy(run / "config.yaml", f"copy_{k}")
    with pytest.raises(UserError, match=message) as caught:
        report(words)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
    assert not Path("comparison.html").exists() and files(Path("without_history")) == before
