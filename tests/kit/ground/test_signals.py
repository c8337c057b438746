"""A process ends in one line at a signal, and with the exit code that shells expect."""

import os
import signal
import sys
import time

import pytest

from kit.ground import app, signals
from kit.ground.errors import Stopped


@pytest.fixture(autouse=True)
def handlers(monkeypatch):
    before = {number: signal.getsignal(number) for number in signals.STOP_SIGNALS}
    monkeypatch.setattr(signals, "_raised_at", -signals.SECONDS_OF_ONE_REQUEST)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 143)]


@pytest.mark.parametrize(("number", "code"), CODES)
def test_first_process_has_the_message_and_the_exit_code(number, code, monkeypatch):
    assert signals.stop_exception(number).exit_code == code
    assert str(signals.stop_exception(number))
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert (str(signals.stop_exception(number)), signals.stop_exception(number).exit_code) == ("", 0)


def test_signal_raises_once_within_two_seconds(monkeypatch):
    signals.listen(signals.raise_stopped)
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(signals, "_raised_at", time.monotonic() - 3)
    with pytest.raises(Stopped):
        os.kill(os.getpid(), signal.SIGTERM)


def test_ignored_signal_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    signals.listen(signals.raise_stopped)
    os.kill(os.getpid(), signal.SIGHUP)


def exit_code(number: int, handle) -> int:
    """Return the exit code of a forked process that gets a signal, or 7 if it goes on."""
    process = os.fork()
    if not process:
        signals.listen(handle)
        os.kill(os.getpid(), number)
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.parametrize(("number", "code"), CODES[:3])
def test_signal_during_the_imports_ends_the_process(number, code, capfd):
    assert exit_code(number, signals.end_at_once) == code
    assert capfd.readouterr().err.count("\n") == 1


def test_forked_process_ignores_signals():
    signals.listen(signals.raise_stopped)
    assert exit_code(signal.SIGTERM, lambda *_: os._exit(3)) == 3
    process = os.fork()
    if not process:
        os.kill(os.getpid(), signal.SIGTERM)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7


def test_exception_of_a_clean_up_gives_way():
    stopped = signals.stop_exception(signal.SIGTERM)
    try:
        try:
            raise stopped
        except Stopped:
            raise RuntimeError("a library cannot clean up")  # noqa: B904
    except RuntimeError as error:
        assert signals.find_stopped(error) is stopped
    assert signals.find_stopped(ValueError()) is None


@pytest.mark.parametrize(("program", "listens"), [("-m", True), ("notebook", False)])
def test_only_a_verb_listens_from_its_first_import(program, listens, monkeypatch):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sys, "argv", [program])
    app.use(app.package)
    assert (signal.getsignal(signal.SIGTERM) != before) == listens
