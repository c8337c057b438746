"""The setup and the end of a process that runs a verb."""

import platform
import resource
import sys
from multiprocessing import get_context

import pytest
import torch

from kit.cli import process
from kit.ground.errors import BrokenFiles, Stopped, UserError


def train_steps(counted) -> None:
    """Count the page faults of ten steps. This needs its own process, since `prepare` changes the process for good."""
    process.prepare()
    for step in range(20):
        if step == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        kept = [torch.ones(10_000_000) for _ in range(3)]
        del kept
    counted.put(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is set")
def test_memory_of_a_step_is_used_by_the_next():
    fork = get_context("fork")
    counted = fork.SimpleQueue()
    run = fork.Process(target=train_steps, args=(counted,))
    run.start()
    run.join()
    assert run.exitcode == 0 and counted.get() < 1000, "ten times 120 MB came from the system again: 290,000 pages"


ENDS = [  # the exception of a verb, the exit code, and the message
    (None, 0, ""),
    (UserError("no such key"), 2, "error: no such key\n"),
    (UserError("Caught in worker process 0.\nproject.UserError: too small"), 2, "error: too small\n"),
    (UserError(""), 2, ""),  # another process prints the message
    (BrokenFiles("a.png"), 1, "error: a.png\n"),
    (Stopped("stopped by SIGTERM", 143), 143, "stopped by SIGTERM\n"),
    (KeyboardInterrupt(), 130, "stopped by Ctrl-C\n"),
]


@pytest.mark.parametrize(("raised", "code", "message"), ENDS, ids=[repr(raised) for raised, *_ in ENDS])
def test_message_and_exit_code_of_a_verb(raised, code, message, monkeypatch, capfd):
    def verb(words):
        assert words == ["--some", "words"]
        if raised:
            raise raised

    monkeypatch.setattr(process, "prepare", lambda: None)
    monkeypatch.setattr(sys, "argv", ["fit", "--some", "words"])
    with pytest.raises(SystemExit) as ended:
        process.main(verb)
    assert (ended.value.code, *capfd.readouterr()) == (code, "", message)
