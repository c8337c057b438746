from types import SimpleNamespace

import pytest
import torch

from kit.dashboard import Bar, Lines, progress

SPEED = SimpleNamespace(images_per_second=4512.3, seconds_left=lambda trainer: 75.2 * (trainer.max_epochs - 3))
TASK = SimpleNamespace(monitor="val/accuracy", mode="max")


def trainer(**options) -> SimpleNamespace:
    metrics = {"train/loss": torch.tensor(0.081), "val/accuracy": torch.tensor(0.987), "val/f1": torch.tensor(0.5)}
    given = {
        "state": SimpleNamespace(fn="fit"),
        "sanity_checking": False,
        "current_epoch": 2,
        "max_epochs": 3,
        "global_step": 1200,
        "is_global_zero": True,
        "callback_metrics": metrics,
        "checkpoint_callbacks": [],
    }
    return SimpleNamespace(**{**given, **options})


LINES = [  # what differs, seconds since the last line: the line
    ({}, 0, "epoch 3/3 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4,512\n"),  # the last epoch
    ({"max_epochs": 10}, 0, ""),
    (
        {"max_epochs": 10},
        11,
        "epoch 3/10 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4,512 left 0:08:46\n",
    ),
    ({"max_epochs": -1}, 11, "epoch 3 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4,512\n"),
    ({"is_global_zero": False}, 0, ""),
    ({"sanity_checking": True}, 11, ""),
    ({"state": SimpleNamespace(fn="validate")}, 11, ""),
]


@pytest.mark.parametrize(("options", "since", "wanted"), LINES)
def test_lines_after_validations(options, since, wanted, capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(SPEED)
    now[0] += since
    lines.on_validation_end(trainer(**options), TASK)
    assert capsys.readouterr().out == wanted


def test_long_epoch_has_lines(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(SPEED)
    for _ in range(10):  # a batch every ten seconds
        now[0] += 10
        lines.on_train_batch_end(trainer(), TASK, None, None, 0)
    assert capsys.readouterr().out.count("\n") == 2


def test_bar_shows_speed_and_metrics():
    shown = Bar(SPEED).get_metrics(trainer(), TASK)
    assert shown == {"train/loss": "0.0810", "val/accuracy": "0.9870", "images/s": "4,512"}


def test_line_within_an_epoch_has_no_validation_metrics(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(SPEED)
    now[0] += 31
    lines.on_train_batch_end(trainer(), TASK, None, None, 0)
    assert capsys.readouterr().out == "epoch 3/3 step 1200 train/loss 0.0810 images/s 4,512\n"


def test_bar_prints_a_line_for_each_epoch(capsys):
    """The second epoch has a validation. The other lines have no metrics, since these would be old."""
    bar = Bar(SPEED)
    for epoch in range(3):
        run = trainer(current_epoch=epoch, num_training_batches=1)
        bar.setup(run, TASK, "fit")
        bar.on_train_start()
        bar.on_train_epoch_start(run)
        if epoch == 1:
            bar.on_validation_start(run, TASK)
            bar.on_validation_end(run, TASK)
        bar.on_train_epoch_end(run, TASK)
        bar.on_train_end()
    lines = [line for line in capsys.readouterr().out.replace("\r", "\n").splitlines() if "step" in line]
    assert lines == [
        "epoch 1/3 step 1200 train/loss 0.0810 images/s 4,512",
        "epoch 2/3 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4,512",
        "epoch 3/3 step 1200 train/loss 0.0810 images/s 4,512",
    ]


@pytest.mark.parametrize(
    ("speed", "text"), [(4512.3, "4,512"), (10, "10"), (4.26, "4.3"), (0.4, "0.4"), (0.0361, "0.036")]
)
def test_slow_speeds_have_digits(speed, text):
    assert progress.speed_text(speed) == text
