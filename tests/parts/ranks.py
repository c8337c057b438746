"""Runs a program in processes that train together, as `torchrun` does.

A process needs seven seconds to import what a run needs, and each rank is a process. So one process imports it all and
forks the ranks of every job that it is given. It computes nothing itself, since the autograd engine's threads and what
a process knows of a GPU do not survive a fork.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

OUTPUT = ("ranks.out", "ranks.err")  # of all ranks, in the working folder
SECONDS = 300  # for a job
GRACE = 30  # seconds that the other ranks have when one has failed: they may wait for it for ever


@contextmanager
def forking() -> Iterator[Callable[..., subprocess.CompletedProcess]]:
    """Give the function that runs a job in the working folder: a module or a file, and its arguments.

    The exit code is that of the first rank, the output that of all.
    """
    line, pipes = [sys.executable, __file__], {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(line, **pipes) as server:

        def run(*words: str, processes: int = 2) -> subprocess.CompletedProcess:
            for name in OUTPUT:
                Path(name).unlink(missing_ok=True)
            print(json.dumps([str(Path.cwd()), words, processes]), file=server.stdin, flush=True)
            code = json.loads(server.stdout.readline())
            return subprocess.CompletedProcess(words, code, *(Path(name).read_text() for name in OUTPUT))

        yield run
        server.stdin.close()


def serve() -> None:
    """Import everything, then run the jobs that standard input names, one a line, and print their exit codes."""
    import project.verbs

    for task in Path(project.__path__[0]).glob("*/task.py"):
        import_module(f"project.{task.parent.name}")
    for line in sys.stdin:
        folder, words, processes = json.loads(line)
        os.chdir(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        ranks = {}
        for rank in range(processes):
            pid = os.fork()
            if not pid:
                os.environ.update(LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
                return become(words)
            ranks[pid] = rank
        print(json.dumps(wait(ranks)), flush=True)
    os._exit(0)  # to take apart all that was imported would take a second


def become(words: list[str]) -> None:
    """Run the program in this process, which then ends as the program does."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in zip((1, 2), OUTPUT, strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.argv = list(words)
    if words[0].endswith(".py"):
        runpy.run_path(words[0], run_name="__main__")
    else:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)


def wait(ranks: dict[int, int]) -> int:
    """Return the first rank's exit code when all have ended, by themselves or killed.

    Args:
        ranks: by process id.
    """
    codes: dict[int, int] = {}
    until = time.monotonic() + SECONDS
    while len(codes) < len(ranks):
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            codes[pid] = os.waitstatus_to_exitcode(status)
            until = min(until, time.monotonic() + GRACE) if codes[pid] else until
        elif time.monotonic() > until:
            for running in ranks.keys() - codes.keys():
                os.kill(running, signal.SIGKILL)
            until += SECONDS
        else:
            time.sleep(0.02)
    return next(codes[pid] for pid, rank in ranks.items() if rank == 0)


if __name__ == "__main__":
    serve()
