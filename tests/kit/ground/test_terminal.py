"""Names of files and classes cannot control the terminal."""

import io
import logging
import sys
import warnings
from collections.abc import Callable

import pytest
from rich.text import Text
from tqdm import tqdm

from kit.checks.report import brief_text, full_text, survey_page
from kit.checks.survey import Survey
from kit.cli import process
from kit.dashboard.report import report
from kit.ground import terminal
from kit.ground.errors import BrokenFiles
from kit.ground.faults import Fault

EVIL = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp\r\nerror: all is well"
SHOWN = r"\x1b]0;title\x07\x1b[2J\x9b31m\u202egnp\x0d\nerror: all is well"


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], io.StringIO]:
    """Return a function that escapes the output and returns what reaches the terminal."""

    def prepare() -> io.StringIO:
        screen = io.StringIO()
        monkeypatch.setattr(sys, "stdout", screen)
        monkeypatch.setattr(sys, "stderr", screen)
        monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
        process.quiet()
        terminal.guard_output()
        return screen

    return prepare


def test_text_becomes_one_line() -> None:
    assert terminal.escape(EVIL) == SHOWN
    assert terminal.escape("größe 日本 👩‍🔬.png") == "größe 日本 👩‍🔬.png"
    assert terminal.escape("latin\udce9.png") == r"latin\xe9.png"  # a byte that is no UTF-8
    assert len(terminal.escape("x" * 10**6)) < 1000


def test_printed_control_characters_are_escaped(watched: Callable[[], io.StringIO]) -> None:
    handler = logging.StreamHandler()
    logging.getLogger("lightning.fabric").addHandler(handler)
    screen = watched()
    logging.getLogger("lightning.fabric").removeHandler(handler)
    print("one\ttwo\n", EVIL)
    print("\udce9", file=sys.stderr)
    assert type(handler.stream) is type(sys.stderr)
    sys.stderr.write(warnings.formatwarning(UserWarning(f"a {EVIL}"), UserWarning, "a.py", 1))  # as Python shows one
    shown = screen.getvalue()
    assert shown.startswith("one\ttwo\n") and r"\xe9" in shown
    assert not set(shown) & set("\x1b\x07\x9b\u202e\r\udce9")
    assert [line for line in shown.splitlines() if line.startswith("warning: ")] == [
        r"warning: a \x1b]0;title\x07\x1b[2J\x9b31m\u202egnp error: all is well"
    ]


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", rb"h\xe4user \u732b"), ("cp1252", b"h\xe4user \\u732b")])
def test_characters_that_the_terminal_lacks_are_escaped(
    encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(screen, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    terminal.guard_output()
    print("h\u00e4user \u732b", flush=True)
    assert screen.getvalue() == shown + b"\n"


def test_progress_bars_move(watched: Callable[[], io.StringIO]) -> None:
    screen = watched()
    for _ in tqdm(range(2), position=1, file=sys.stderr, mininterval=0, desc="a\x1b[2J"):
        pass
    assert "\x1b[A" in screen.getvalue() and "\r" in screen.getvalue() and "\x1b[2J" not in screen.getvalue()


def test_error_message_is_escaped(watched: Callable[[], io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    screen = watched()

    def verb(args: list[str]) -> None:
        raise BrokenFiles(f"2 of 9 images:\n  {EVIL}\n  b.jpg")

    monkeypatch.setattr(process, "prepare", lambda: None)
    with pytest.raises(SystemExit):
        process.main(verb)
    assert screen.getvalue() == f"error: 2 of 9 images:\n  {SHOWN}\n  b.jpg\n"


def test_reports_and_pages_escape_names() -> None:
    name = f"{EVIL}<script>"
    faults = [Fault("class-unknown", "error", f"data/{name}", None, f"no class '{name}'; rename it") for _ in range(2)]
    survey = Survey(faults, {"train": 1}, "data", 0.1, [])
    for message in (full_text(survey), brief_text(survey, "check")):
        assert r"\x1b]0;title" in message and not set(message) & set("\x1b\x07\x9b\u202e\r")
        assert "error: all is well" not in message.splitlines()
    assert "\x1b" not in survey_page(survey) and "<script>" not in survey_page(survey)


def test_results_table_escapes_names(capsys: pytest.CaptureFixture[str]) -> None:
    report({f"test/accuracy/{EVIL}": 0.5}, {}, None, [f"left out: {EVIL}"], f"verdict: {EVIL}\ntry: {EVIL}")
    assert capsys.readouterr().out.splitlines()[-2:] == [f"{SHOWN}    0.5000", f"left out: {SHOWN}"]


def test_verdict_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    report({}, {}, None, conclusion="verdict: \x1b[2J\ntry: \x9b31m")  # `history.json` may be a stranger's
    assert capsys.readouterr().out == "\nverdict: \\x1b[2J\ntry: \\x9b31m\n\n"


def test_text_without_a_stream_has_no_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert terminal.styled(Text("red", "bold red"), "[bold]:smile:") == "red\n[bold]:smile:\n"


class Full(io.StringIO):
    """A stream on a full disk, or of a program that has ended."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        self.write("")


def test_output_that_cannot_be_written_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, Full())
    terminal.guard_output()
    print("lost", flush=True)
    print("lost", file=sys.stderr, flush=True)


def test_closed_output_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)  # as Python does if the shell has closed it: `>&-`
    terminal.guard_output()
    assert not sys.stdout.isatty()
