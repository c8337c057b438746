import json
import math
import re
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len

from kit.dashboard.report import report, require_measured
from kit.evaluation import Means
from kit.ground.errors import NotMeasured


def test_report_prints_metrics_and_writes_them(capsys):
    metrics = {"test/accuracy": 0.98765, "test/f1": 0.5}
    figures = {"train_seconds": 12.345, "images_per_second": 4321.0, "peak_memory_bytes": 2_500_000_000}
    report(metrics, figures, Path("run"))
    out = capsys.readouterr().out
    assert "test/accuracy  0.9877\n" in out
    assert "test/f1        0.5000\n" in out
    assert "trained in 12.3 s, 4,321 images/s, peak memory 2,500 MB\nrun folder    run\n" in out
    assert json.loads(Path("run/results.json").read_text()) == {**metrics, **figures}
    assert [path.name for path in Path("run").iterdir()] == ["results.json"]


def test_classes_are_one_table_of_the_worst_and_the_best(capsys):
    by_class = {f"test/map/{k}": (7 * k % 1000) / 1000 for k in range(1000)}
    also = {f"test/map_50/{k}": 0.5 for k in range(0, 1000, 2)}
    counts = Counted([str(k) for k in range(1000)])
    text = report({"test/loss": 2.0, **by_class, **also}, {}, Path("run"), evaluation=counts)
    assert f"\n{text}\n" == capsys.readouterr().out
    overall, table, _ = text.split("\n\n")
    assert overall == "test/loss  2.0000"
    header, *rows = [line.split() for line in table.splitlines()]
    assert header == ["class", "boxes", "map", "map_50"] and len(rows) == 21 and "980" in rows.pop(10)
    assert [float(row[2]) for row in rows] == [k / 1000 for k in (*range(10), *range(990, 1000))]
    assert all(int(row[1].replace(",", "")) == 5 * int(row[0]) for row in rows)
    assert all(row[3:] == ["0.5000"] * (int(row[0]) % 2 == 0) for row in rows)
    assert len(json.loads(Path("run/results.json").read_text())) == 1501


def test_classes_without_a_finite_metric_come_last():
    values = {"a": 0.9, "b": math.nan, "c": 0.1, "d": math.nan, "e": 0.5}
    text = report({f"test/map/{name}": value for name, value in values.items()}, {}, None)
    assert [line.split()[0] for line in text.splitlines() if line][-5:] == ["c", "e", "a", "b", "d"]


@pytest.mark.parametrize("columns", [80, 34])
def test_narrow_terminal_shows_all_columns_of_the_classes(columns, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    names = ["bee", "a kind of cat with a long name", "貓" * 20]
    metrics = {f"test/{key}/{name}": 0.5 for key in ("map", "map_50") for name in names}
    report(metrics, {}, None, evaluation=Counted(names))
    lines = re.sub(r"\x1b\[\d*m", "", capsys.readouterr().out).splitlines()
    index = next(index for index, line in enumerate(lines) if line.startswith("class"))
    assert lines[index].split() == ["class", "boxes", "map", "map_50"]
    assert all(cell_len(line) <= columns for line in lines) and "…" not in "".join(lines)
    assert len([line for line in lines if line.endswith("0.5000  0.5000")]) == 3


class Counted(Means):
    """An evaluation of a sample, with 5 * k boxes of class k."""

    def __init__(self, class_names):
        super().__init__([], class_names)
        self.update(torch.tensor([0]), torch.zeros(1, 1), None)

    def class_counts(self):
        return "boxes", 5 * torch.arange(len(self.class_names))


def test_report_without_a_file_prints_all_classes(capsys):
    report({f"test/accuracy/{k}": 0.5 for k in range(1000)}, {}, None)
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if "0.5000" in line]) == 1000


def test_conclusion_comes_first_and_is_not_part_of_the_text(capsys):
    text = report({"test/f1": 0.5}, {}, Path("run"), conclusion="verdict: overfits\ntry: more images")
    assert capsys.readouterr().out.startswith("\nverdict: overfits\ntry: more images\n\ntest/f1")
    assert "verdict" not in text


def test_report_without_folder_only_prints(capsys):
    report({"val/loss": 1.0}, {}, None)
    assert capsys.readouterr().out.strip() == "val/loss  1.0000"
    assert list(Path().iterdir()) == []


def test_unknown_figures_are_left_out(capsys):
    report({"val/loss": 1.0}, {"train_seconds": 1.0}, Path("run"))
    out = capsys.readouterr().out
    assert "images/s" not in out and "trained in 1.0 s\n" in out


def test_a_second_report_replaces_the_first():
    for value in (0.1, 0.2):
        report({"val/loss": value}, {}, Path("run"))
    assert json.loads(Path("run/results.json").read_text()) == {"val/loss": 0.2}


def test_values_that_are_not_finite_are_null_in_the_file(capsys):
    metrics = {"test/loss": math.inf, "test/miou": math.nan, "test/accuracy": 0.5}
    report(metrics, {"train_seconds": 1.0}, Path("run"))
    out = capsys.readouterr().out
    assert "test/miou         nan\n" in out and "test/loss         inf\n" in out
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
