"""The setup and the end of a process that runs a verb."""

import os
import platform
import resource
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from kit.cli import process
from kit.ground import unexpected
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


@pytest.mark.slow
def test_unwritable_cache_of_matplotlib_causes_no_warning(tmp_path):
    (tmp_path / "file").write_text("")
    line = "import sys; sys.argv = ['fit', '--wrong']; from kit.cli.start import start; start('kit.cli.verbs', 'fit')"
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "file" / "folder")}
    ended = subprocess.run([sys.executable, "-c", line], env=environment, capture_output=True, text=True)
    assert ended.returncode == 2 and "matplotlib" not in ended.stderr.lower(), ended.stderr


WORKER = 'Traceback (most recent call last):\n  File "kit/a.py", line 1, in f\n    read()\n    ^^^^^^\n'
ENDS = [  # the exception of a verb, the exit code, and the message
    (None, 0, ""),
    (UserError("no such key"), 2, "error: no such key\n"),
    (UserError(f"Caught in worker process 0.\n{WORKER}project.UserError: too small"), 2, "error: too small\n"),
    (UserError(""), 2, ""),  # another process prints the message
    (BrokenFiles("a.png"), 1, "error: a.png\n"),
    (Stopped("stopped by SIGTERM", 15), 143, "stopped by SIGTERM\n"),
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


def write_package(name: str, code: str) -> str:
    """Write a module of the owner, and return its name."""
    Path(f"{name}.py").write_text(code)
    return name


FAILS = "def fail():\n    raise RuntimeError('two\\nlines')\n"
CALLS = "import json\n\ndef fail():\n    json.loads('[')\n"


@pytest.fixture
def ended(monkeypatch, capfd, tmp_path):
    """Return a function that ends a verb by the exception of a function, and returns the exit code and the lines."""

    def run(function):
        monkeypatch.setattr(process, "prepare", lambda: None)
        monkeypatch.setattr(sys, "argv", ["fit"])
        monkeypatch.setattr(unexpected, "run_folder", tmp_path)
        with pytest.raises(SystemExit) as raised:
            process.main(lambda _: function())
        return raised.value.code, capfd.readouterr().err.splitlines()

    return run


@pytest.mark.parametrize("code", [FAILS, CALLS], ids=["raises", "calls a library that raises"])
def test_error_in_the_owners_code_keeps_its_traceback(code, ended, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    owners = runpy.run_path(f"{write_package('owners', code)}.py")
    with_note = unexpected.doing("training")(owners["fail"])
    exit_code, lines = ended(with_note)
    assert exit_code == 1 and lines[0].startswith("Traceback")
    assert any("owners.py" in line for line in lines) and lines[-1] == "while training"
    assert not Path("traceback.txt").exists()


def kits_error(monkeypatch, code=CALLS):
    """Return a function that fails in this library's code, or in a library that it calls."""
    monkeypatch.setattr(unexpected, "KIT", Path.cwd())
    return unexpected.doing("training")(runpy.run_path(f"{write_package('part_of_kit', code)}.py")["fail"])


@pytest.mark.parametrize(("code", "words"), [(FAILS, "RuntimeError: two lines"), (CALLS, "JSONDecodeError")])
def test_any_other_error_is_one_line_and_its_traceback_is_in_the_runs_folder(code, words, ended, monkeypatch):
    exit_code, (line,) = ended(kits_error(monkeypatch, code))
    assert exit_code == 1 and line.startswith(f"error: while training: {words}") and "traceback.txt" in line
    assert "part_of_kit.py" in Path("traceback.txt").read_text()


def test_note_of_another_library_is_not_what_the_program_was_doing():
    error = ValueError("broken")
    error.add_note("see https://example.org")
    with pytest.raises(ValueError, match="broken"), unexpected.doing("testing"), unexpected.doing("training"):
        raise error
    assert unexpected.message_prefix(error) == "while training: "


def test_traceback_without_a_run_is_in_a_temporary_file(ended, monkeypatch, tmp_path):
    failing = kits_error(monkeypatch)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))

    def without_run():
        unexpected.run_folder = None
        failing()

    _, (line,) = ended(without_run)
    (file,) = Path("tmp").glob("*/traceback.txt")
    assert str(file) in line and "part_of_kit.py" in file.read_text()


def test_error_of_a_data_worker_is_judged_by_the_workers_traceback(ended, monkeypatch):
    monkeypatch.setattr(unexpected, "KIT", Path.cwd())
    for file, first in ((Path.cwd() / "kit_file.py", "error: RuntimeError: too small"), ("/owner/a.py", "Traceback")):
        text = f"Caught RuntimeError in worker.\n{WORKER}RuntimeError: too small".replace("kit/a.py", str(file))

        def fail(text=text):
            raise RuntimeError(text)

        monkeypatch.setattr(unexpected, "INSTALLED", {"site-packages", "tests"})
        exit_code, lines = ended(fail)
        assert exit_code == 1 and lines[0].startswith(first)
        assert len(lines) == 1 or "/owner/a.py" in "".join(lines)
