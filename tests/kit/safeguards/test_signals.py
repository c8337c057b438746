"""Which signals stop a run, and how several processes agree on it."""

import os
import signal
from types import SimpleNamespace

import pytest

from kit.data.loading import ignore_signals
from kit.ground.signals import stop_exception
from kit.safeguards.resume import signals
from kit.safeguards.resume.signals import Agreement, Signals

TRAINER = SimpleNamespace(strategy=SimpleNamespace(launcher=None), is_global_zero=True)
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


@pytest.fixture(autouse=True)
def handlers():
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_slurm_signals_stop_a_run(number, monkeypatch):
    monkeypatch.setattr(signals.SLURMEnvironment, "detect", lambda: True)
    received = Signals()
    received.listen(TRAINER)
    os.kill(os.getpid(), number)
    assert received.received == number
    assert (str(stop_exception(number)), stop_exception(number).exit_code) == (f"stopped by {number.name}", 143)


def test_slurm_signals_are_ignored_without_slurm():
    before = signal.getsignal(signal.SIGUSR1)
    Signals().listen(TRAINER)
    assert signal.getsignal(signal.SIGUSR1) == before


def test_ignored_signal_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Signals().listen(TRAINER)
    assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


def test_handlers_are_restored():
    before = {number: signal.getsignal(number) for number in STOPPING}
    received = Signals()
    for _ in range(2):
        received.listen(TRAINER)
    os.kill(os.getpid(), signal.SIGHUP)
    received.restore()
    assert received.received == signal.SIGHUP
    assert {number: signal.getsignal(number) for number in STOPPING} == before


def test_signal_is_sent_to_started_processes():
    sent = []
    launcher = SimpleNamespace(kill=sent.append)
    Signals().listen(SimpleNamespace(strategy=SimpleNamespace(launcher=launcher), is_global_zero=True))
    os.kill(os.getpid(), signal.SIGINT)
    assert sent == [signal.SIGTERM]


def test_single_process_needs_no_agreement():
    assert Agreement(1)(True, False) == [True, False]


def test_workers_ignore_the_first_signals(capfd):
    worker = os.fork()
    if not worker:
        ignore_signals()
        for number in (*STOPPING, signal.SIGTERM):
            os.kill(os.getpid(), number)
            os.write(1, b".")
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == 0
    assert capfd.readouterr().out == "." * len(STOPPING)
