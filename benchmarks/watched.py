"""Do jobs in processes of their own, and see what each job does outside of the folder of a run.

Each process is a fork of this one, so that it imports nothing anew, and has a copy of a folder to work in. It may write
to `run` and `.cache` in there. Three things show what else it does: Python's audit hooks, the files of the folder
afterwards, and the processes that are left.
"""

import contextlib
import gc
import io
import os
import pickle
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kit.ground.threads import available_cores

SECONDS = 120  # for a job that takes one or two, on a machine that may be busy
GIGABYTES = 2.0  # beyond what a job begins with
EVENTS = (
    *("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("shutil.", "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "pty.spawn"),
    *("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostby", "socket.sendto", "urllib.Request"),
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
INSIDE = ("run", ".cache", "some.ckpt")  # a run, the user's own cache, and the stranger's file


class Done(NamedTuple):
    """A job that has ended.

    Args:
        result: what the work returned, or the traceback of what it raised; "" if the process died.
        effects: what it did outside of the run's folder, or that it hung, died or took too much memory.
        seconds: that a core computed.
        gigabytes: the most memory that it took beyond what it began with.
    """

    job: Any
    result: Any
    effects: list[str]
    seconds: float
    gigabytes: float


class Watch:
    """An audit hook that notes what happens outside of `INSIDE` in a folder."""

    def __init__(self, folder: Path) -> None:
        self.inside = tuple(f"{os.path.realpath(folder / name)}/" for name in INSIDE)
        self.on, self.events = True, list[str]()

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        self.on = False  # what happens in here is no effect of the job
        try:
            if event == "open":
                path, _, flags = arguments
                if isinstance(path, (str, bytes, os.PathLike)) and isinstance(flags, int) and flags & WRITING:
                    self._note(event, [path])
            elif event.startswith(EVENTS):
                self._note(event, arguments)
        finally:
            self.on = True

    def _note(self, event: str, arguments: Sequence[Any]) -> None:
        paths = [os.fsdecode(one) for one in arguments if isinstance(one, (str, bytes, os.PathLike))]
        if event == "os.mkdir" and Path(paths[0]).is_dir():  # it is there already, and nothing is made
            return
        within = [f"{os.path.realpath(path)}/".startswith(self.inside) or path == os.devnull for path in paths]
        if not paths or not all(within):
            self.events.append(f"{event} {str(arguments)[:200]}")


class _Process(NamedTuple):
    job: Any
    folder: Path
    start: float

    @property
    def output(self) -> Path:
        return self.folder.with_suffix(".output")


def apart(work: Callable[[Any], Any], jobs: Iterable[Any], stage: Path, seconds: float = SECONDS) -> Iterator[Done]:
    """Yield each job when it has ended, in any order. As many processes as there are cores work side by side.

    Args:
        work: is called with a job, in the process and the folder that the job has for itself.
        stage: what each of these folders holds at first.
        seconds: after this time, a job is ended.
    """
    waiting, running = iter(jobs), dict[int, _Process]()
    gc.collect()
    gc.freeze()  # the collector would otherwise copy the memory that the processes share
    with tempfile.TemporaryDirectory() as base:
        for number in range(available_cores()):
            _start(work, waiting, running, stage, Path(base).resolve() / str(number))
        while running:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid:
                process = running.pop(pid)
                yield _done(process, pid, status, usage)
                _start(work, waiting, running, stage, process.folder)
                continue
            for pid, process in running.items():
                if time.monotonic() - process.start > seconds:
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)


def _start(work: Callable, waiting: Iterator, running: dict[int, _Process], stage: Path, folder: Path) -> None:
    for job in waiting:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(stage, folder, symlinks=True)
        process = _Process(job, folder, time.monotonic())
        pid = os.fork()
        if not pid:
            _become(work, process)
        running[pid] = process
        return


def _become(work: Callable[[Any], Any], process: _Process) -> None:
    """Do the job in this process, write down what came of it, and end."""
    begun_with = _resident()
    try:
        os.setpgid(0, 0)
        for stream in (1, 2):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        os.chdir(process.folder)
        for name in ("HOME", "TMPDIR"):
            os.environ[name] = str(process.folder)
        tempfile.tempdir = None
        before, watch = _files(process.folder), Watch(process.folder)
        sys.addaudithook(watch)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                result = work(process.job)
        except BaseException:
            result = traceback.format_exc()
        watch.on = False
        after = _files(process.folder)
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        effects = [*dict.fromkeys(watch.events), *(f"another content: {name}" for name in changed)]
        process.output.write_bytes(pickle.dumps((result, effects, begun_with)))
    finally:
        os._exit(0)  # what this process would do at its end is the parent's


def _files(folder: Path) -> dict[str, bytes]:
    """Return the content of each file outside of `INSIDE`, by its path; that of a link is its target's name."""
    found: dict[str, bytes] = {}
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        if name.split("/")[0] not in INSIDE:
            found[name] = (
                str(path.readlink()).encode() if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
            )
    return found


def _done(process: _Process, pid: int, status: int, usage: resource.struct_rusage) -> Done:
    result, effects, begun_with = "", ["the process died"], _resident()
    if process.output.exists():
        result, effects, begun_with = pickle.loads(process.output.read_bytes())
        process.output.unlink()
    gigabytes = max(0, usage.ru_maxrss - begun_with) / 2**20
    if os.WIFSIGNALED(status):
        effects.append(f"ended by signal {os.WTERMSIG(status)} after {time.monotonic() - process.start:.0f} s")
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
        effects.append("a process was left")
    if gigabytes > GIGABYTES:
        effects.append(f"took {gigabytes:.1f} GB")
    return Done(process.job, result, effects, usage.ru_utime + usage.ru_stime, gigabytes)


def _resident() -> int:
    """Return the memory of this process, in kilobytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
