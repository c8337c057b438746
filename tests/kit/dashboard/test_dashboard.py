"""Tiny runs with the command line, and the contents of their logs."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_task
import torch
import yaml
from refused import assert_refused
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_run import killed_at

from kit.cli import process, verbs
from kit.dashboard import Dashboard, dashboard, pictures
from kit.dashboard.pictures import GAP
from kit.ground.drawing import PADDING, label_size

PARTS = Path(__file__).resolve().parent.parent / "parts"
TINY = {
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 2},
    "model": {"class_path": "tiny_task.Drawn", "init_args": {"lr": 0.05}},
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8, "train": 40, "val": 21}},
    "check": "off",
}
PICTURES = {f"samples/{name}" for name in ("first_batch", "predictions", "worst")}
PICTURES |= {"validation/confusion", "curves/loss", "curves/accuracy", "data/labels"}
AT_THE_END = PICTURES - {"samples/first_batch", "data/labels"}


@pytest.fixture(autouse=True)
def config() -> None:
    process.quiet()
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY))


def fit(name: str, *args: str) -> Path:
    verbs.fit(["--config", "tiny.yaml", "--name", name, *args])
    return Path("runs") / name / "version_0"


def log(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = log(run)
    tags = [tag for tag in events.Tags()["scalars"] if not tag.startswith("speed/")]
    # Sorted, since the names of a log's files tell their order by the second alone. A step that was repeated after a
    # resume has logged the same point twice.
    return {tag: sorted({(event.step, event.value) for event in events.Scalars(tag)}) for tag in tags}


def text(events: EventAccumulator, tag: str) -> str:
    return events.Tensors(f"{tag}/text_summary")[-1].tensor_proto.string_val[0].decode()


def weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_run_logs_pictures_curves_and_texts():
    events = log(fit("tiny"))
    tags = events.Tags()
    assert set(tags["images"]) == PICTURES
    assert [image.step for image in events.Images("samples/first_batch")] == [0]
    assert all(events.Images(tag)[-1].step == 15 for tag in AT_THE_END)
    assert {"learning_rate", "gradient_norm", "train/loss", "val/accuracy", "test/accuracy"} <= set(tags["scalars"])
    assert not [tag for tag in tags["scalars"] if tag == "epoch" or tag.startswith(("best/", "test/accuracy/"))]
    assert {f"speed/{key}" for key in ("images_per_second", "waiting_share", "peak_memory_gb")} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("learning_rate")] == [1, 3, 5, 7, 9, 11, 13]
    report = text(events, "report")
    assert report.startswith("verdict: ") and "\ntest/accuracy  0." in report and "trained in" in report


def test_the_row_of_the_table_of_runs_has_the_best_and_the_test_metrics():
    run = fit("row")
    row = log(run / "best")
    assert set(row.Tags()["scalars"]) == {"val/accuracy", "test/accuracy"}
    assert row.Scalars("val/accuracy")[-1].value == max(event.value for event in log(run).Scalars("val/accuracy"))
    assert [event.value for event in row.Scalars("test/accuracy")] == [log(run).Scalars("test/accuracy")[-1].value]
    assert "_hparams_/session_start_info" in row.summary_metadata


def test_disabled_dashboard_logs_nothing_and_training_is_the_same():
    on, off = fit("on", "--dashboard.budget", "1"), fit("off", "--dashboard.enabled", "false")
    assert log(off).Tags()["images"] == []
    assert "trained in" in text(log(on), "report") and "trained in" not in text(log(off), "report")
    alone = {"learning_rate", "gradient_norm"}
    assert {key: points for key, points in scalars(on).items() if key not in alone} == scalars(off)
    for name, value in weights(on).items():
        assert torch.equal(value, weights(off)[name]), name


def test_module_without_draw_has_curves():
    events = log(fit("plain", "--model", "tiny_task.Judge"))
    assert set(events.Tags()["images"]) == {"curves/loss", "curves/accuracy", "data/labels"}
    assert {"learning_rate", "gradient_norm"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("logger", ["false", "CSVLogger"])
def test_other_loggers_get_no_events(logger):
    words = ["--trainer.logger", logger] + ([] if logger == "false" else ["--trainer.logger.save_dir", "elsewhere"])
    verbs.fit(["--config", "tiny.yaml", "--name", "other", *words])
    assert not list(Path().rglob("*tfevents*"))


def test_run_that_stops_early_has_pictures_of_its_last_validation():
    events = log(fit("still", "--model.lr", "0", "--early_stopping.patience", "1"))
    assert events.Images("samples/worst")[-1].step == events.Scalars("val/accuracy")[-1].step + 1
    assert events.Scalars("val/accuracy")[-1].step == 9  # counted from 0
    assert {events.Images(tag)[-1].step for tag in AT_THE_END} == {10}
    assert "stopped after epoch 2: val/accuracy has not improved" in text(events, "safeguards/early_stopping")


def test_exception_in_drawing_is_one_warning_and_ends_no_run(recwarn):
    run = fit("clumsy", "--model", "tiny_task.Clumsy")
    (message,) = [str(warning.message) for warning in recwarn if "dashboard" in str(warning.message)]
    assert "ValueError: clumsy fingers" in message
    assert set(log(run).Tags()["images"]) == PICTURES - {"samples/predictions", "samples/worst"}
    assert "train/loss" in log(run).Tags()["scalars"] and (run / "results.json").is_file()


def test_charts_before_one_that_fails_are_kept(monkeypatch, recwarn):
    charts = tiny_task.Rightness.charts
    monkeypatch.setattr(tiny_task.Rightness, "charts", lambda self: {**charts(self), "odd": "no chart"})
    run = fit("odd")
    assert any("dashboard: no more charts" in str(warning.message) for warning in recwarn)
    assert set(log(run).Tags()["images"]) == PICTURES
    assert (run / "pictures/confusion.png").is_file() and not (run / "pictures/odd.png").exists()


def test_chart_that_fails_takes_no_other_pictures_with_it(monkeypatch, recwarn):
    def fail(self):
        raise RuntimeError("no chart today")

    monkeypatch.setattr(tiny_task.Rightness, "charts", fail)
    run = fit("uncharted", "--dashboard.budget", "1")
    (message,) = [str(warning.message) for warning in recwarn if "dashboard" in str(warning.message)]
    assert "charts" in message and "no chart today" in message
    events = log(run)
    assert set(events.Tags()["images"]) == PICTURES - {"validation/confusion"}
    assert events.Images("samples/worst")[-1].step == 15
    assert (run / "pictures/worst.jpg").is_file() and not (run / "pictures/confusion.png").exists()


def test_first_batch_is_drawn_as_the_training_step_gets_it(monkeypatch):
    drawn: list[torch.Tensor] = []
    batches: list[Any] = []
    step = tiny_task.Drawn.training_step

    def training_step(self, batch, batch_idx):
        batches.append(batch)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(tiny_task.Drawn, "training_step", training_step)
    monkeypatch.setattr(tiny_task.Drawn, "draw", lambda self, image, *_: drawn.append(image) or image)
    fit("first", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0")
    data = tiny_task.Shades(train=40, val=21)
    data.setup("fit")
    images = data.samples["train"].images[batches[0].keys]
    assert len(batches) == 5
    shapes_and_samples = drawn[1:7]  # the first drawing only tells the size
    assert torch.equal(torch.stack(shapes_and_samples), images[:6])


def test_gradient_norm_is_logged_if_the_nan_guard_is_on():
    guarded, unguarded = scalars(fit("guarded")), scalars(fit("unguarded", "--nan_guard.enabled", "false"))
    assert len(guarded["gradient_norm"]) == 7 and all(0 < value < 100 for _, value in guarded["gradient_norm"])
    assert "gradient_norm" not in unguarded and len(unguarded["learning_rate"]) == 7


def test_captions_of_worst_samples_have_files_and_badness(monkeypatch):
    data = tiny_task.Shades(train=40, val=21)
    data.setup("fit")
    monkeypatch.setattr(data.samples["val"], "file", lambda key: f"folder/cat/{key}.png")
    monkeypatch.setattr(pictures, "predict_samples", lambda *args: [pictures.Sample(key, None) for key in args[2]])
    task = SimpleNamespace(latest_evaluation=tiny_task.Rightness(["dark", "grey", "light"]))
    logits, targets = torch.eye(3)[[0, 2, 2]], torch.tensor([1, 2, 0])
    task.latest_evaluation.update(torch.tensor([4, 7]), logits[:2], targets[:2])
    task.latest_evaluation.update(torch.tensor([9]), logits[2:], targets[2:])
    worst = pictures.worst_samples(task, data, 2)
    assert [(key, caption) for key, *_, caption in worst] == [
        (9, ("cat/9.png", "off by 2.00")),
        (4, ("cat/4.png", "off by 1.00")),
    ]
    assert pictures.worst_samples(SimpleNamespace(latest_evaluation=None), data, 2) == []


def test_evenly_spaced_samples():
    assert pictures.evenly_spaced(3, 8) == [0, 1, 2]
    assert pictures.evenly_spaced(100, 4) == [0, 33, 66, 99]
    assert len(set(pictures.evenly_spaced(9, 8))) == 8
    assert pictures.evenly_spaced(0, 4) == []


@pytest.mark.parametrize(
    ("size", "count", "shape"),
    [
        ((30, 20), 6, (3, 2 * 30 + GAP, 3 * 20 + 2 * GAP)),  # three columns, not enlarged
        ((600, 800), 6, (3, 3 * 260 + 2 * GAP, 2 * 346 + GAP)),
        ((500, 1000), 5, (3, 3 * 350 + 2 * GAP, 700)),  # wide: a row each, and as many as there is room for
        ((6, 8), 1, (3, 6, 8)),
        ((4000, 10), 6, (3, 220, 6 * 1 + 5 * GAP)),
    ],
)
def test_pictures_of_samples_are_near_square(size, count, shape):
    sample = pictures.Sample(torch.zeros(3, *size, dtype=torch.uint8), None)
    assert pictures.draw_samples(tiny_task.Drawn(3, 3), [sample] * count).shape == shape


def test_texts_of_large_pictures_are_legible():
    sizes = []

    def draw(image, predicted, target):
        sizes.append(label_size("")[1])
        return image

    pictures.draw_samples(SimpleNamespace(draw=draw), [pictures.Sample(torch.zeros(3, 1400, 1400).byte(), None)])
    assert sizes[-1] == pytest.approx(2 * pictures.TEXT_SIZE, abs=2 * PADDING)
    assert label_size("")[1] == sizes[0]


def test_two_processes_log_each_sample_once(ranks):
    words = ["--config", "tiny.yaml", "--name", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    ended = ranks("tiny_app.fit", *words)
    assert ended.returncode == 0, ended.stderr
    events = log(Path("runs/two/version_0"))
    assert set(events.Tags()["images"]) == PICTURES
    assert events.Images("validation/confusion")[-1].step == 6


def test_invalid_arguments_are_refused():
    assert_refused(Dashboard, samples=0, budget=-0.1)


def test_killed_and_resumed_run_has_the_same_curves():
    whole = fit("whole")
    with killed_at(7):
        fit("killed", "--exact_resume.every_minutes", "0", "--dashboard.budget", "1")
    run = Path("runs/killed/version_0")
    verbs.fit(["--resume", str(run)])
    assert scalars(run) == scalars(whole)
    events = log(run)
    assert [image.step for image in events.Images("samples/first_batch")] == [0]
    assert set(events.Tags()["images"]) == PICTURES
    for name, value in weights(run).items():
        assert torch.equal(value, weights(whole)[name]), name


def test_full_disk_ends_no_run(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.utils.tensorboard.writer.FileWriter.add_event", full)
    assert (fit("full") / "results.json").is_file()
    assert "could not be written (No space left on device)" in capsys.readouterr().err


def test_drawing_stays_within_the_budget():
    assert dashboard.is_due(elapsed=100, last_drawing=0, drawing_seconds=1, budget=0.01)
    assert not dashboard.is_due(elapsed=99, last_drawing=0, drawing_seconds=1, budget=0.01)


@pytest.mark.parametrize(("every", "seconds"), [(5, 0.3), (20, 0.8), (60, 1.3)])
def test_a_long_run_is_drawn_often_and_within_the_budget(every, seconds):
    elapsed = last = spent = 0.0
    drawings = 0
    for _ in range(8 * 3600 // every):
        elapsed += every
        if dashboard.is_due(elapsed, last, spent, 0.01):
            elapsed, spent, drawings = elapsed + seconds, spent + seconds, drawings + 1
            last = elapsed
    assert drawings >= 30 and spent < 0.0101 * elapsed


def test_drawings_become_rare_in_a_day():
    last, drawings = 0.0, 0
    for elapsed in range(10, 86_400, 10):
        if dashboard.is_due(elapsed, last, 0, 1):
            last, drawings = elapsed, drawings + 1
    assert 40 < drawings < 80


@pytest.mark.parametrize(
    ("rates", "values"),
    [([0.1, 0.1], {"learning_rate": 0.1}), ([0.1, 0.2], {"learning_rate/1": 0.1, "learning_rate/2": 0.2}), ([], {})],
)
def test_equal_learning_rates_are_one_curve(rates, values):
    optimizer = SimpleNamespace(param_groups=[{"lr": rate} for rate in rates])
    assert dashboard.optimizer_values(SimpleNamespace(optimizers=[optimizer], callbacks=[])) == values
