"""The page that a run leaves in its folder."""

import base64
import io
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny_task
import torch
from PIL import Image
from tiny_run import killed_at, write_config

from kit.cli import verbs
from kit.dashboard import ReportPage, history, report_page
from kit.dashboard.history import History


@pytest.fixture(autouse=True)
def config() -> None:
    write_config(max_epochs=3)


def page(name: str, *args: str) -> str:
    verbs.fit(["--config", "tiny.yaml", "--name", name, *args])
    return Path(f"runs/{name}/version_0/report.html").read_text()


def lines(page: ReportPage) -> dict[str, list[list[float]]]:
    """The steps and the values of each line of the page's charts."""
    charts = history.training_and_validation(page._curves).items()
    drawn = {f"{metric} {name}": line for metric, chart in charts for name, line in chart.curves.items()}
    return {name: [x.tolist(), y.tolist()] for name, (x, y) in drawn.items() if len(x)}


@pytest.fixture
def written(monkeypatch) -> list[ReportPage]:
    """All pages that are written."""
    pages, write = [], ReportPage.write

    def keep(self, *args):
        pages.append(self)
        write(self, *args)

    monkeypatch.setattr(ReportPage, "write", keep)
    return pages


def test_page_holds_everything_in_one_small_file():
    content = page("tiny")
    assert len(content) < 2e6
    assert not re.search(r'https?://|src="(?!data:)|<script', content)
    assert "verdict: " in content and "<td>test/accuracy</td>" in content and "max_epochs: 3" in content
    assert content.count("data:image/png") == 4  # loss, accuracy, confusion, labels
    assert content.count("data:image/jpeg") == 3  # the first batch, samples of the test split, and the worst ones
    assert "nothing is wrong" in content


def test_pictures_are_files_beside_the_page():
    content = page("tiny")
    files = {path.name: path.read_bytes() for path in Path("runs/tiny/version_0/pictures").iterdir()}
    charts = ("curves_loss", "curves_accuracy", "confusion", "data_labels")
    photographs = ("first_batch", "predictions", "worst")
    assert set(files) == {*(f"{name}.png" for name in charts), *(f"{name}.jpg" for name in photographs)}
    assert all(base64.b64encode(picture).decode() in content for picture in files.values())


def test_photographs_have_a_limited_size():
    picture = torch.randint(256, (3, 700, 900), dtype=torch.uint8)  # noise cannot be compressed
    content = report_page.encode_photograph(picture)
    assert 50_000 < len(content) <= report_page.MAX_PHOTOGRAPH_BYTES
    width, height = Image.open(io.BytesIO(content)).size
    assert width / height == pytest.approx(9 / 7, 0.01)


def test_name_of_a_chart_cannot_lead_out_of_the_folder():
    assert report_page.file_name("curves_accuracy/../../é cat") == "curves_accuracy_.._.._é_cat.png"


def test_tags_are_balanced():
    open_tags: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "img", "br"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Parser().feed(page("tiny"))
    assert not open_tags


def test_names_are_escaped(monkeypatch):
    monkeypatch.setattr(tiny_task.Shades, "find_class_names", lambda self: ["<script>alert(1)</script>", "b", "c"])
    assert "<script>" not in page("hostile")


def test_data_that_were_not_checked_are_not_called_faultless():
    content = page("unchecked", "--check", "off")
    assert "not checked" in content and "nothing is wrong" not in content


def test_run_without_a_picture_still_has_its_page(monkeypatch):
    def fail(*_):
        raise RuntimeError("no drawing today")

    monkeypatch.setattr(tiny_task.Drawn, "draw", fail)
    with pytest.warns(match="no drawing today"):
        content = page("undrawn", "--dashboard.enabled", "false")
    assert "data:image/jpeg" not in content and "<td>test/accuracy</td>" in content


def test_resumed_run_has_the_same_curves_and_pictures(written):
    page("whole")
    with killed_at(7):
        page("killed", "--exact_resume.every_minutes", "0")
    pictures = Path("runs/killed/version_0/pictures")
    first = (pictures / "first_batch.jpg").read_bytes()
    (pictures / "confused.png").write_bytes(b"old")
    verbs.fit(["--resume", "runs/killed/version_0"])
    assert (pictures / "first_batch.jpg").read_bytes() == first
    assert {path.name for path in pictures.iterdir()} == {
        path.name for path in Path("runs/whole/version_0/pictures").iterdir()
    }
    whole, resumed = map(lines, written)
    assert resumed == whole
    assert set(whole) == {"loss training", "accuracy training", "accuracy validation"}
    assert all(x == [5.0, 10.0, 15.0] for x, _ in whole.values())


def test_values_that_are_not_finite_have_no_points():
    page = ReportPage(None)
    page._curves = {"train/loss": [(1, 2.0), (2, math.nan), (3, 1.0)], "val/loss": [(n, math.inf) for n in range(3)]}
    assert lines(page) == {"loss training": [[1.0, 3.0], [2.0, 1.0]]}


@pytest.mark.parametrize("shape", [(), (1,)])
def test_training_loss_is_a_mean_of_finite_losses(shape):
    one, trainer = ReportPage(None), SimpleNamespace(accumulate_grad_batches=2)
    for value in (1.0, math.nan, 2.0, math.inf):
        one.on_train_batch_end(trainer, None, {"loss": torch.full(shape, value)})
    one.on_train_batch_end(trainer, None, None)
    assert one.state_dict()["train_loss"] == [6, 2]


def test_charts_are_drawn_without_a_whole_net(monkeypatch):
    monkeypatch.setattr(report_page, "has_whole_net", lambda trainer: False)
    content = page("sharded")
    assert content.count("data:image/png") == 4 and content.count("data:image/jpeg") == 1  # the first batch


def test_curves_that_cannot_be_drawn_lose_no_history(tmp_path, monkeypatch):
    def fail(curves):
        raise RuntimeError("no curve today")

    monkeypatch.setattr(report_page, "training_and_validation", fail)
    with pytest.warns(match="no curve today"):
        ReportPage(None).write(tmp_path, {"test/map": 0.25}, {}, "verdict: fits well", [])
    assert History.read(tmp_path).conclusion == "verdict: fits well"
    assert (tmp_path / "report.html").is_file()


def test_curves_have_a_limited_number_of_points(monkeypatch, written):
    monkeypatch.setattr(history, "MAX_POINTS", 3)
    page("limited", "--trainer.max_epochs", "5")
    assert all(len(x) == 3 and (x[0], x[-1]) == (5.0, 25.0) for x, _ in lines(written[0]).values())


def test_curves_of_a_validation_begin_with_the_loss_and_are_few(monkeypatch):
    monkeypatch.setattr(report_page, "monitored_metrics", lambda *_: {"val/map": "max"})
    logged = {f"val/{k}": k for k in range(20)} | {"val/map/cat": 1, "val/map": 0.5, "val/loss": 2, "train/f1": 1}
    one = ReportPage(SimpleNamespace(gap_values=lambda index: {"overfitting/train_map": 0.75, "overfitting/gap": 0.25}))
    one._losses += 3
    one._add_points(SimpleNamespace(callback_metrics=logged, global_step=7), None)
    keys = ["train/loss", "val/loss", "val/map", *(f"val/{k}" for k in range(6)), "overfitting/train_map"]
    assert [*one._curves] == keys and one._curves["val/map"] == [(7, 0.5)] and one._curves["train/loss"] == [(7, 1.0)]


def test_page_of_many_classes_is_small(tmp_path):
    names = [f"class number {number:05}" for number in range(10_000)]
    metrics = {f"test/{key}/{name}": index / 30_000 for key in ("map", "map_50") for index, name in enumerate(names)}
    ReportPage(None).write(tmp_path, {"test/map": 0.25, **metrics}, {"train_seconds": 1.0}, "", [])
    content = (tmp_path / "report.html").read_text()
    assert len(content) < 1.6e6  # this leaves room for curves and pictures
    assert "<td>test/map</td><td class=number>0.2500</td>" in content
    assert "<td>class number 00001</td><td class=number>0.0000 <meter value=0.0></meter></td>" in content
    assert content.count("class number 09999") == 1 and content.count("value=0.333>") > 2
