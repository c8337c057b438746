import json
import math
from pathlib import Path

import pytest

from kit.dashboard.report import report, require_measured
from kit.ground.errors import NotMeasured


def test_report_prints_metrics_and_writes_them(capsys):
    metrics = {"test/accuracy": 0.98765, "test/f1": 0.5}
    figures = {"train_seconds": 12.345, "images_per_second": 4321.0, "peak_memory_bytes": 2_500_000_000}
    report(metrics, figures, Path("run"))
    out = capsys.readouterr().out
    assert "test/accuracy  0.9877\n" in out
    assert "test/f1        0.5000\n" in out
    assert "trained in 12.3 s, 4,321 images/s, peak memory 2,500 MB, run folder run" in out
    assert json.loads(Path("run/results.json").read_text()) == {**metrics, **figures}
    assert [path.name for path in Path("run").iterdir()] == ["results.json"]


def test_only_the_worst_and_best_of_many_classes_are_printed(capsys):
    by_class = {f"test/accuracy/{k}": (7 * k % 1000) / 1000 for k in range(1000)}
    few = {f"test/map/{k}": 0.5 for k in range(20)}
    report({"test/loss": 2.0, **by_class, **few}, {}, Path("run"))
    lines = capsys.readouterr().out.split("\n\n")[0].strip().splitlines()
    assert len(lines) == 1 + 20 + 20 + 1 and "980" in lines[-1] and "results.json" in lines[-1]
    values = sorted(float(line.split()[1]) for line in lines[:-1] if "accuracy" in line)
    assert values == [k / 1000 for k in (*range(10), *range(990, 1000))]
    assert len(json.loads(Path("run/results.json").read_text())) == 1021


def test_report_without_a_file_prints_all_classes(capsys):
    report({f"test/accuracy/{k}": 0.5 for k in range(1000)}, {}, None)
    assert len(capsys.readouterr().out.strip().splitlines()) == 1000


def test_report_without_folder_only_prints(capsys):
    report({"val/loss": 1.0}, {}, None)
    assert capsys.readouterr().out.strip() == "val/loss  1.0000"
    assert list(Path().iterdir()) == []


def test_unknown_figures_are_left_out(capsys):
    report({"val/loss": 1.0}, {"train_seconds": 1.0}, Path("run"))
    out = capsys.readouterr().out
    assert "images/s" not in out and "trained in 1.0 s, run folder run" in out


def test_a_second_report_replaces_the_first():
    for value in (0.1, 0.2):
        report({"val/loss": value}, {}, Path("run"))
    assert json.loads(Path("run/results.json").read_text()) == {"val/loss": 0.2}


def test_values_that_are_not_finite_are_null_in_the_file(capsys):
    metrics = {"test/loss": math.inf, "test/miou": math.nan, "test/accuracy": 0.5}
    report(metrics, {"train_seconds": 1.0}, Path("run"))
    out = capsys.readouterr().out
    assert "test/miou      nan\n" in out and "test/loss      inf\n" in out
    content = Path("run/results.json").read_text()
    assert json.loads(content, parse_constant=pytest.fail) == {
        "test/loss": None, "test/miou": None, "test/accuracy": 0.5, "train_seconds": 1.0
    }  # fmt: skip
    with pytest.raises(NotMeasured, match="not finite: test/loss, test/miou;") as caught:
        require_measured(metrics)
    assert caught.value.exit_code == 1


def test_run_without_metrics_raises():
    report({}, {}, None)
    with pytest.raises(NotMeasured):
        require_measured({})
    require_measured({"test/accuracy": 0.0})
