import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from kit.dashboard import Bar, Lines, progress
from kit.ground import terminal

SPEED = SimpleNamespace(images_per_second=4512.3, seconds_left=lambda trainer: 75.2 * (trainer.max_epochs - 3))
TASK = SimpleNamespace(monitor="val/accuracy", mode="max")


def trainer(**options) -> SimpleNamespace:
    metrics = {"train/loss": torch.tensor(0.081), "val/accuracy": torch.tensor(0.987), "val/f1": torch.tensor(0.5)}
    given = {
        "state": SimpleNamespace(fn="fit"),
        "sanity_checking": False,
        "current_epoch": 2,
        "max_epochs": 3,
        "max_steps": -1,
        "global_step": 1200,
        "is_global_zero": True,
        "callback_metrics": metrics,
        "checkpoint_callbacks": [],
        "lightning_module": TASK,
        "num_val_batches": [4],
    }
    return SimpleNamespace(**{**given, **options})


LINES = [  # what differs, seconds since the last line: the line
    ({"max_epochs": 10}, 0, ""),
    (
        {"max_epochs": 10},
        11,
        "epoch 3/10 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4,512 left 0:08:46\n",
    ),
    ({"max_epochs": -1}, 11, "epoch 3 step 1200 train/loss 0.0810 val/accuracy 0.9870 images/s 4,512\n"),
    ({"is_global_zero": False}, 11, ""),
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


@pytest.mark.parametrize("options", [{}, {"max_epochs": -1, "max_steps": 1200}, {"max_epochs": 9}])
@pytest.mark.parametrize("seconds", [0, 11])
def test_line_of_the_last_validation_is_printed_once_at_the_end(options, seconds, capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines, run = Lines(SPEED), trainer(**options)
    now[0] += seconds
    lines.on_validation_end(run, TASK)
    run.current_epoch += 1  # as in Lightning
    lines.on_train_end(run, TASK)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 3") and "step 1200 train/loss 0.0810 val/accuracy 0.9870" in line
    assert seconds or line.endswith("images/s 4,512")


def test_skipped_line_of_the_last_validation_is_printed_after_a_later_line(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(SPEED)
    lines.on_validation_end(trainer(), TASK)
    now[0] += 31
    lines.on_train_batch_end(trainer(), TASK, None, None, 0)
    lines.on_train_end(trainer(), TASK)
    later, last = capsys.readouterr().out.splitlines()
    assert "val/" not in later and "val/accuracy 0.9870" in last


def test_long_epoch_has_lines(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(SPEED)
    for _ in range(10):  # a batch every ten seconds
        now[0] += 10
        lines.on_train_batch_end(trainer(), TASK, None, None, 0)
    assert capsys.readouterr().out.count("\n") == 2


def test_line_within_an_epoch_has_no_validation_metrics(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    lines = Lines(SPEED)
    now[0] += 31
    lines.on_train_batch_end(trainer(), TASK, None, None, 0)
    assert capsys.readouterr().out == "epoch 3/3 step 1200 train/loss 0.0810 images/s 4,512\n"


@pytest.fixture
def screen(monkeypatch):
    """Return a function that makes a terminal of a width, whose content is the value of the result."""

    def make(columns: int) -> io.StringIO:
        stream = io.StringIO()
        stream.isatty = lambda: True
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("NO_COLOR", "1")
        terminal.guard_output()
        monkeypatch.setattr(sys, "stdout", sys.stdout)
        return stream

    yield make
    terminal._GuardedStream.live_lines, terminal._GuardedStream.line_is_open = None, False


def visible(text: str) -> list[str]:
    """Return the lines of a terminal after text that only moves up and erases what is below."""
    lines = [""]
    for part in re.split(r"(\x1b\[\d*[A-Za-z]|\n)", text.replace("\r", "")):
        if part == "\n":
            lines.append("")
        elif up := re.fullmatch(r"\x1b\[(\d+)A", part):
            lines = [*lines[: -1 - int(up[1])], ""]
        elif part != "\x1b[J":
            assert "\x1b" not in re.sub(r"\x1b\[[\d;]*m", "", part)
            lines[-1] += re.sub(r"\x1b\[[\d;]*m", "", part)
    return [line.rstrip() for line in lines]


def drive(bar: Bar, run: SimpleNamespace, validate: bool) -> None:
    """Call the hooks of an epoch."""
    bar.on_train_epoch_start(run, TASK)
    bar.on_train_batch_end(run, TASK, None, None, 0)
    if validate:
        bar.on_validation_start(run, TASK)
        bar.on_validation_batch_end(run, TASK, None, None, 0)
        bar.on_validation_end(run, TASK)
    bar.on_train_epoch_end(run, TASK)


def run_of(epoch: int, **options) -> SimpleNamespace:
    run = trainer(current_epoch=epoch, num_training_batches=4, **options)
    run.fit_loop = SimpleNamespace(epoch_loop=SimpleNamespace(batch_idx=2))
    return run


def test_bar_leaves_a_row_for_each_epoch_below_one_header(screen):
    """The second epoch has a validation. The other rows have no metrics, since these would be old."""
    out, bar = screen(80), Bar(SPEED)
    for epoch in range(3):
        run = run_of(epoch, max_epochs=6)
        bar.setup(run, TASK, "fit")
        drive(bar, run, validate=epoch == 1)
        print("a message")
    bar.on_train_end(run, TASK)
    assert [line.split() for line in visible(out.getvalue())] == [
        ["epoch", "step", "train/loss", "val/accuracy", "best", "images/s", "left"],
        ["1/6", "1,200", "0.0810", "0.9870", "4,512", "0:03:46"],
        ["a", "message"],
        ["2/6", "1,200", "0.0810", "0.9870", "0.9870", "4,512", "0:03:46"],
        ["a", "message"],
        ["3/6", "1,200", "0.0810", "0.9870", "4,512", "0:03:46"],
        ["a", "message"],
        [],
    ]


def test_row_takes_the_place_of_the_lines_of_its_epoch(screen):
    out, bar, run = screen(80), Bar(SPEED), run_of(0, max_epochs=6)
    bar.setup(run, TASK, "fit")
    drive(bar, run, validate=True)
    assert [line.split()[:1] for line in visible(out.getvalue())] == [["epoch"], ["1/6"], []]
    bar.on_validation_start(run, TASK)
    assert [line.split()[:1] for line in visible(out.getvalue())] == [["epoch"], ["1/6"], ["1/6"], ["validation"], []]


def test_rows_of_a_run_counted_in_steps_are_its_validations(screen):
    out, bar = screen(80), Bar(SPEED)
    for epoch in range(6):
        run = run_of(epoch, max_epochs=-1, max_steps=1600)
        bar.setup(run, TASK, "fit")
        drive(bar, run, validate=epoch in (2, 4))
    assert [line.split()[0] for line in visible(out.getvalue())[:3]] == ["epoch", "3", "5"]


@pytest.mark.parametrize(("best", "width", "is_green"), [(0.98701, 80, False), (0.9, 80, True), (0.9, 24, True)])
def test_only_the_best_row_is_green(best, width, is_green, monkeypatch):
    rows = []
    monkeypatch.setattr(progress.shutil, "get_terminal_size", lambda: os.terminal_size((width, 24)))
    monkeypatch.setattr(terminal.LiveLines, "draw", lambda _, *lines, above=(): rows.extend(above))
    callback = SimpleNamespace(monitor="val/accuracy", best_model_score=torch.tensor(best))
    run, bar = run_of(0, checkpoint_callbacks=[callback]), Bar(SPEED)
    monkeypatch.setattr(progress, "monitored_metrics", lambda *_: {"val/accuracy": "max"})
    bar.on_validation_end(run, TASK)
    *_, row = rows
    assert ("best" in rows[0].plain) == (width == 80)
    assert any(span.style == "green" for span in row.spans) == is_green


WIDTHS = [
    (80, "epoch step train/loss val/accuracy best images/s left"),
    (60, "epoch step train/loss val/accuracy best left"),
    (40, "epoch val/accuracy best left"),
    (12, "epoch val/a"),
]


@pytest.mark.parametrize(("columns", "header"), WIDTHS)
def test_columns_fit_into_the_terminal(columns, header, screen):
    out, bar = screen(columns), Bar(SPEED)
    run = run_of(0, max_epochs=6)
    bar.setup(run, TASK, "fit")
    drive(bar, run, validate=False)
    bar.on_validation_start(run, TASK)
    lines = visible(out.getvalue())
    assert lines[0].split() == header.split()
    assert any(line.startswith("valid") for line in lines)
    assert all(len(line) <= columns for line in lines)


def test_lines_are_drawn_at_most_four_times_a_second(screen, monkeypatch):
    now, drawn = [1000.0], []
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    bar, run = Bar(SPEED), run_of(0)
    bar.setup(run, TASK, "fit")
    monkeypatch.setattr(terminal.LiveLines, "draw", lambda *_, **__: drawn.append(now[0]))
    for _ in range(1000):
        bar.on_train_batch_end(run, TASK, None, None, 0)
        now[0] += 0.01
    assert 35 <= len(drawn) <= 40


def test_open_lines_and_workers_do_not_tear_the_table(screen):
    out, lines = screen(80), terminal.LiveLines()
    lines.draw("one", "two")
    print("half ", end="")
    lines.draw("not now")
    print("a line")
    lines.draw("one", "two")
    lines._process += 1  # as in a worker process
    print("a worker's message")
    lines._process -= 1
    lines.draw("three")
    assert visible(out.getvalue()) == ["half a line", "a worker's message", "three", ""]
    lines.erase()
    assert visible(out.getvalue()) == ["half a line", "a worker's message", ""]


TINY = """
name: tiny
model: {class_path: tiny_task.Judged}
data: {class_path: tiny_task.Shades, init_args: {batch_size: 8, train: 64, val: 30}}
trainer: {max_epochs: 3, accelerator: cpu, logger: false}
"""


def run_in_terminal(tmp_path: Path, columns: int, **environment: str) -> str:
    """Train in a pseudo-terminal, and return what it was sent."""
    (tmp_path / "config.yaml").write_text(TINY)
    main, child = pty.openpty()
    fcntl.ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    code = "from kit.cli.process import main; from kit.cli import verbs; main(verbs.fit)"
    parts = str(Path(__file__).parent.parent / "parts")
    env = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
    env |= {"PYTHONPATH": parts, "TERM": "xterm-256color", **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--config", "config.yaml"], stdin=child, stdout=child, stderr=child, env=env
    )
    os.close(child)
    output = b""
    with suppress(OSError):  # the terminal is closed
        while part := os.read(main, 4096):
            output += part
    os.close(main)
    assert process.wait() == 0, output.decode()
    return output.decode().replace("\r\n", "\n")


TERMINALS = [
    (80, {}, True, True),
    (40, {"NO_COLOR": "1"}, False, True),  # a narrow one
    (80, {"TERM": "dumb"}, False, False),
]


@pytest.mark.slow
@pytest.mark.parametrize(("columns", "environment", "has_colours", "has_table"), TERMINALS)
def test_run_in_a_terminal(columns, environment, has_colours, has_table, tmp_path):
    text = run_in_terminal(tmp_path, columns, **environment)
    assert bool(re.search(r"\x1b\[[\d;]*3\d", text)) == has_colours
    assert ("\x1b[J" in text) == has_table
    lines = visible(text)
    table = [line.split()[0] for line in lines if re.match(r" *(epoch|\d/3) ", line)]
    assert table == (["epoch", "1/3", "2/3", "3/3"] if has_table else ["epoch"])
    end = lines[next(index for index, line in enumerate(lines) if line.startswith("verdict: ")) :]
    assert [line for line in end if line.startswith("test/accuracy  0.")]
    assert "run folder    runs/tiny/version_0" in end and "report        runs/tiny/version_0/report.html" in end
    assert not [line for line in lines if line.startswith(("training", "validation", "test  "))]
