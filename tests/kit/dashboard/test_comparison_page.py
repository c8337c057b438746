"""The page that compares runs."""

import json
import re
from pathlib import Path

import pytest
import yaml

from kit.dashboard.comparison_page import Run, comparison_page
from kit.dashboard.history import History
from kit.ground.errors import UserError

CONFIG = {
    "name": "some",
    "model": {"class_path": "a.Net", "init_args": {"lr": 0.1, "depth": None}},
    "data": {"augment": [{"class_path": "a.Flip"}, {"class_path": "a.Crop", "init_args": {"share": 0.5}}]},
}
RESULTS = {"test/loss": 0.5, "test/accuracy": 0.25, "test/accuracy/cat": 0.5, "train_seconds": 12.34}


def write(name: str, config=CONFIG, results=RESULTS, history: History | None = None) -> Path:
    folder = Path("runs") / name / "version_0"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "results.json").write_text(json.dumps(results))
    if history:
        history.write(folder)
    return folder


def rows(page: str) -> dict[str, list[str]]:
    """Return the cells of each row by the text of its first cell."""
    found = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>.*?</tr>", page, re.DOTALL)]
    return {first: others for first, *others in found}


def test_figures_stand_side_by_side_and_the_best_is_bold():
    better = {"test/loss": 0.25, "test/accuracy": 0.75, "val/miou": 0.5, "accuracy": 0.1234, "train_seconds": 9876.5}
    runs = [
        Run.read(write("a")),
        Run.read(write("b", results=better)),
        Run.read(write("c", results={"test/loss": None, "accuracy": 0.0123})),
    ]
    table = rows(comparison_page(runs))
    assert table[""] == ["1: a", "2: b", "3: c"]
    assert table["test/loss"] == ["0.5000", "<b>0.2500</b>", ""]
    assert table["test/accuracy"] == ["0.2500", "<b>0.7500</b>", ""]
    assert table["accuracy"] == ["", "<b>0.1234</b>", "0.0123"]
    assert table["val/miou"] == ["", "0.5000", ""]  # one value is not the best of several
    assert table["test/accuracy/cat"] == ["0.5000", "", ""]
    assert table["train_seconds"] == ["12.3", "9,876.5", ""]


def test_mode_of_a_monitored_metric_decides_and_an_unknown_one_has_no_best():
    results = ({"test/odd": 1.0, "test/even": 1.0}, {"test/odd": 2.0, "test/even": 2.0})
    modes = History("", {"val/odd": "min"}, {})
    table = rows(comparison_page([Run.read(write(str(k), results=r, history=modes)) for k, r in enumerate(results)]))
    assert table["test/odd"] == ["<b>1.0000</b>", "2.0000"]
    assert table["test/even"] == ["1.0000", "2.0000"]


def test_reference_values_of_generated_images_have_no_best():
    keys = ("frechet_distance", "frechet_distance_noise", "nearest_distance", "knn_accuracy")
    runs = [Run.read(write(str(value), results={f"test/{key}": value for key in keys})) for value in (1.0, 2.0)]
    table = rows(comparison_page(runs))
    assert table["test/frechet_distance"] == ["<b>1.0000</b>", "2.0000"]
    assert table["test/knn_accuracy"] == ["1.0000", "<b>2.0000</b>"]
    assert table["test/frechet_distance_noise"] == table["test/nearest_distance"] == ["1.0000", "2.0000"]


def test_only_config_keys_that_differ_are_listed():
    other = {
        "name": "other",
        "model": {"class_path": "a.Net", "init_args": {"lr": 0.2}},
        "data": {"augment": [{"class_path": "a.Flip"}]},
    }
    page = comparison_page([Run.read(write("a")), Run.read(write("b", config=other))])
    table = rows(page.partition("Differences")[2])
    assert table == {
        "": ["1: a", "2: b"],
        "model.lr": ["0.1", "0.2"],
        "data.augment": ["a.Flip, a.Crop", "a.Flip"],
        "data.augment.share": ["0.5", ""],
    }


def test_one_chart_for_each_curve_of_any_run():
    curves = {"train/loss": [(1, 2.0), (2, 1.0)], "val/accuracy": [(1, 0.5), (2, float("nan")), (3, 0.75)]}
    runs = [write("a", history=History("", {}, curves)), write("b", history=History("", {}, {"val/map": [(1, 0.5)]}))]
    assert History.read(runs[0]).curves["train/loss"] == curves["train/loss"]
    assert comparison_page([Run.read(run) for run in runs]).count("data:image/png") == 2  # a single point is no curve


def test_names_are_escaped():
    results = {f"test/accuracy/{name}": 0.5 for name in ("<script>", "b")}
    folder = write("<script>", config={"x<script>": "<script>"}, results=results)
    assert "<script>" not in comparison_page([Run.read(folder), Run.read(write("b"))])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("results.json", "{"),
        ("results.json", "[1]"),
        ("results.json", '{"test/loss": "low"}'),
        ("results.json", '{"test/loss": {}}'),
        ("history.json", "cut of"),
        ("history.json", "[]"),
        ("history.json", '{"conclusion": "", "modes": [], "curves": {}}'),
        ("history.json", '{"conclusion": "", "modes": {}, "curves": {"train/loss": [[1, "x"]]}}'),
        ("history.json", '{"conclusion": "", "modes": {}, "curves": {"train/loss": 3}}'),
        ("config.yaml", "a: [1"),
    ],
)
def test_damaged_file_is_refused(file, content):
    folder = write("a")
    (folder / file).write_text(content)
    with pytest.raises(UserError, match=re.escape(str(folder / file))) as caught:
        Run.read(folder)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2
