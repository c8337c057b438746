"""What the processes that run a verb are set to, and how they end."""

import platform
import resource
import sys
from multiprocessing import get_context
from urllib.error import URLError

import pytest
import torch

from kit.cli import process
from kit.ground.errors import BrokenFiles, Stopped, UserError


def steps(counted) -> None:
    """In a process of its own, since a process keeps what `prepare` sets."""
    process.prepare()
    for step in range(20):
        if step == 10:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        kept = [torch.ones(10_000_000) for _ in range(3)]
        del kept
    counted.put(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator is set")
def test_memory_of_a_step_serves_the_next():
    fork = get_context("fork")
    counted = fork.SimpleQueue()
    run = fork.Process(target=steps, args=(counted,))
    run.start()
    run.join()
    assert run.exitcode == 0 and counted.get() < 1000, "ten times 120 MB came from the system again: 290,000 pages"


ENDS = [  # how the verb ends, the exit code, and what is said
    (None, 0, ""),
    (UserError("no such key"), 2, "error: no such key\n"),
    (UserError("Caught in worker process 0.\nproject.UserError: too small"), 2, "error: too small\n"),
    (UserError(""), 2, ""),  # another process speaks for it
    (BrokenFiles("a.png"), 1, "error: a.png\n"),
    (URLError("no network"), 2, "error: cannot download (no network); for weights: --model.net.weights FILE\n"),
    (Stopped("stopped by SIGTERM", 143), 143, "stopped by SIGTERM\n"),
    (KeyboardInterrupt(), 130, "stopped by Ctrl-C\n"),
]


@pytest.mark.parametrize(("raised", "code", "said"), ENDS, ids=[repr(raised) for raised, *_ in ENDS])
def test_how_a_verb_ends(raised, code, said, monkeypatch, capfd):
    def verb(words):
        assert words == ["--some", "words"]
        if raised:
            raise raised

    monkeypatch.setattr(process, "prepare", lambda: None)
    monkeypatch.setattr(sys, "argv", ["fit", "--some", "words"])
    with pytest.raises(SystemExit) as ended:
        process.main(verb)
    assert (ended.value.code, *capfd.readouterr()) == (code, "", said)
