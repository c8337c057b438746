"""Tiny runs over the command line, and what stands in their logs."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import tiny_task
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kit.cli import process, verbs
from kit.dashboard import Dashboard, TensorBoard, looking
from kit.ground.errors import UserError

PARTS = Path(__file__).resolve().parent.parent / "parts"
TINY = {
    "trainer": {"max_epochs": 3, "accelerator": "cpu", "log_every_n_steps": 2},
    "model": {"class_path": "tiny_task.Drawn", "init_args": {"lr": 0.05}},
    "data": {"class_path": "tiny_task.Shades", "init_args": {"batch_size": 8, "train": 40, "val": 21}},
    "check": "off",
}
PICTURES = {f"samples/{name}" for name in ("first_batch", "validation", "worst")}
PICTURES |= {"validation/accuracy", "validation/confusion"}


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


def test_a_run_has_its_pictures_curves_and_words():
    events = log(fit("tiny"))
    tags = events.Tags()
    assert set(tags["images"]) == PICTURES
    assert [image.step for image in events.Images("samples/first_batch")] == [0]
    assert all(events.Images(tag)[-1].step == 15 for tag in PICTURES - {"samples/first_batch"})
    assert {"learning_rate", "gradient_norm", "train/loss", "val/accuracy"} <= set(tags["scalars"])
    assert {f"speed/{key}" for key in ("images_per_second", "waiting_share", "peak_memory_gb")} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("learning_rate")] == [1, 3, 5, 7, 9, 11, 13]
    assert {"custom_scalars__config__", "precision_recall/a"} <= set(tags["tensors"])
    report = text(events, "report")
    assert report.startswith("verdict: ") and "| test/accuracy | " in report and "trained in" in report


def test_what_is_off_is_off_and_the_run_is_the_same_either_way():
    on, off = fit("on", "--dashboard.budget", "1"), fit("off", "--dashboard.enabled", "false")
    assert log(off).Tags()["images"] == []
    assert not {"custom_scalars__config__", "report/text_summary"} & set(log(off).Tags()["tensors"])
    alone = {"learning_rate", "gradient_norm"}
    assert {key: points for key, points in scalars(on).items() if key not in alone} == scalars(off)
    for name, value in weights(on).items():
        assert torch.equal(value, weights(off)[name]), name


def test_a_module_that_draws_nothing_has_its_curves():
    events = log(fit("plain", "--model", "tiny_task.Judge"))
    assert events.Tags()["images"] == []
    assert {"learning_rate", "gradient_norm"} <= set(events.Tags()["scalars"])


@pytest.mark.parametrize("logger", ["false", "CSVLogger"])
def test_other_loggers_get_nothing(logger):
    words = ["--trainer.logger", logger] + ([] if logger == "false" else ["--trainer.logger.save_dir", "elsewhere"])
    verbs.fit(["--config", "tiny.yaml", "--name", "other", *words])
    assert not list(Path().rglob("*tfevents*"))


def test_the_norm_is_the_same_whoever_computes_it():
    guarded, alone = fit("guarded"), fit("alone", "--nan_guard.enabled", "false")
    norms = scalars(guarded)["gradient_norm"]
    assert norms == scalars(alone)["gradient_norm"] and len(norms) == 7
    assert all(0 < value < 100 for _, value in norms)


def test_a_run_that_stops_early_ends_with_pictures_and_says_why():
    events = log(fit("still", "--model.lr", "0", "--early_stopping.patience", "1"))
    assert events.Images("samples/worst")[-1].step == events.Scalars("val/accuracy")[-1].step + 1
    assert events.Scalars("val/accuracy")[-1].step == 9  # counted from 0
    assert {events.Images(tag)[-1].step for tag in PICTURES - {"samples/first_batch"}} == {10}
    assert "stopped after epoch 2: val/accuracy has not improved" in text(events, "early_stopping")


def test_what_fails_at_drawing_is_said_and_ends_no_run(recwarn):
    run = fit("clumsy", "--model", "tiny_task.Clumsy")
    said = [str(warning.message) for warning in recwarn if "dashboard" in str(warning.message)]
    assert said == ["dashboard: no more pictures of samples (ValueError: clumsy)"]
    assert set(log(run).Tags()["images"]) == {"samples/first_batch", "validation/accuracy", "validation/confusion"}
    assert "train/loss" in log(run).Tags()["scalars"] and (run / "results.json").is_file()


def test_a_run_that_goes_on_counts_what_its_log_has_already():
    run = fit("tiny", "--trainer.max_epochs", "1")
    size = sum(file.stat().st_size for file in run.glob("events.out.*"))
    logger = TensorBoard("runs/tiny/version_0")
    assert logger.size() == size > 1000


def test_the_first_batch_is_drawn_as_the_net_gets_it(monkeypatch):
    """Augmented, and as `loss_terms` gets it."""
    drawn: list[torch.Tensor] = []
    seen: list[Any] = []

    def loss_terms(self, batch):
        seen.append(batch)
        return self.net(batch.images.flatten(1)).logsumexp(1).sum().view(1), torch.ones(1)

    def training_step(self, batch, batch_idx):
        return self.loss_terms(batch._replace(images=batch.images.flip(-1)))[0].sum()

    monkeypatch.setattr(tiny_task.Drawn, "loss_terms", loss_terms, raising=False)
    monkeypatch.setattr(tiny_task.Drawn, "training_step", training_step)
    monkeypatch.setattr(tiny_task.Drawn, "draw", lambda self, image, *_: drawn.append(image) or image)
    fit("mirrored", "--trainer.max_epochs", "1", "--trainer.limit_val_batches", "0")
    data = tiny_task.Shades(train=40, val=21)
    data.setup("fit")
    wanted = data.samples["train"].images[seen[0].keys].flip(-1)
    assert len(drawn) == 8 and torch.equal(torch.stack(drawn), wanted)
    assert len(seen) == 5


def test_the_worst_are_named_with_their_files(monkeypatch):
    data = tiny_task.Shades(train=40, val=21)
    data.setup("fit")
    monkeypatch.setattr(data.samples["val"], "file", lambda key: f"folder/cat/{key}.png")
    evaluation = tiny_task.Rightness(["dark", "grey", "light"])
    logits, targets = torch.eye(3)[[0, 2, 2]], torch.tensor([1, 2, 0])
    evaluation.update(torch.tensor([4, 7]), logits[:2], targets[:2])
    evaluation.update(torch.tensor([9]), logits[2:], targets[2:])
    found = looking.worst(evaluation, data, 2)
    assert list(found.items()) == [(9, "cat/9.png: off by 2.00"), (4, "cat/4.png: off by 1.00")]
    assert looking.worst(None, data, 2) == {}


def test_samples_are_spread_over_the_set():
    assert looking.spread(3, 8) == [0, 1, 2]
    assert looking.spread(100, 4) == [12, 37, 62, 87]
    assert len(set(looking.spread(9, 8))) == 8
    assert looking.spread(0, 4) == []


def test_large_pictures_are_made_smaller():
    task = tiny_task.Drawn(3, 3)
    large = looking.Sample(torch.zeros(3, 1500, 2000, dtype=torch.uint8), None)
    drawn = looking.picture(task, [large] * 4)
    assert drawn.shape[2] <= looking.WIDTH and drawn[0].numel() < 1.1 * looking.MOST_PIXELS
    small = looking.Sample(torch.zeros(3, 6, 8, dtype=torch.uint8), None)
    assert looking.picture(task, [small]).shape == (3, 6, 8)


def test_two_processes_show_all_samples_once_and_none_waits(ranks):
    words = ["--config", "tiny.yaml", "--name", "two", "--trainer.devices", "2", "--trainer.strategy", "ddp"]
    ended = ranks("tiny_app.fit", *words)
    assert ended.returncode == 0, ended.stderr
    events = log(Path("runs/two/version_0"))
    assert set(events.Tags()["images"]) == PICTURES
    assert events.Images("validation/confusion")[-1].step == 6
    curve = torch.tensor(list(events.Tensors("precision_recall/a")[-1].tensor_proto.float_val)).view(6, 101)
    assert curve[0, 0] + curve[3, 0] == 21  # all that there are, see `tiny_task.Drawn`


def test_what_makes_no_sense_is_refused():
    for options in ({"samples": 0}, {"budget": -0.1}):
        with pytest.raises(UserError, match="dashboard: "):
            Dashboard(**options)


def test_curves_of_precision_and_recall_over_thresholds():
    board = TensorBoard("runs/curve/version_0")
    curve = torch.tensor([[0.9, 0.9, 0.405, 0.0], [1.0, 1.0, 0.5, 0.0], [0.0, 0.5, 0.75, 1.0]])
    board.log_precision_recall("a", curve, 8, 3)
    board.finalize("success")
    value = log(Path("runs/curve/version_0")).Tensors("a")[0]
    true, false, _, missed, precision, recall = torch.tensor(list(value.tensor_proto.float_val)).view(6, 101)
    assert value.step == 3
    for threshold, wanted in {0: (6, 6, 2, 0.5, 0.75), 40: (6, 6, 2, 0.5, 0.75), 41: (4, 0, 4, 1, 0.5)}.items():
        assert [float(row[threshold]) for row in (true, false, missed, precision, recall)] == list(wanted)
    assert (float(recall[91]), float(precision[91]), float(missed[91])) == (0, 1, 8)


def test_a_run_that_was_killed_has_the_same_curves_in_the_end(monkeypatch):
    class Killed(BaseException):
        pass

    def dies(self, batch, batch_idx):
        if self.global_step == 7:
            raise Killed
        return step(self, batch, batch_idx)

    step, whole = tiny_task.Drawn.training_step, fit("whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(tiny_task.Drawn, "training_step", dies)
        fit("killed", "--exact_resume.every_minutes", "0", "--dashboard.budget", "1")
    run = Path("runs/killed/version_0")
    verbs.fit(["--resume", str(run)])
    assert scalars(run) == scalars(whole)
    events = log(run)
    assert [image.step for image in events.Images("samples/first_batch")] == [0]
    assert set(events.Tags()["images"]) == PICTURES and "custom_scalars__config__" in events.Tags()["tensors"]
    for name, value in weights(run).items():
        assert torch.equal(value, weights(whole)[name]), name


def test_a_full_disk_costs_pictures_alone(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("torch.utils.tensorboard.writer.FileWriter.add_event", full)
    assert (fit("full") / "results.json").is_file()
    assert "could not be written (No space left on device); training goes on" in capsys.readouterr().err
