"""Run a program in processes that train together, as `torchrun` does.

A process needs seven seconds to import what a run needs, and each rank is a process. So the process that runs the tests
forks a server once it has imported them all, and the server forks the ranks of each job. The fork is made before the
first test: the autograd engine's threads do not survive one.
"""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TextIO

from lightning.pytorch.utilities.rank_zero import rank_zero_only

OUTPUT = ("ranks.out", "ranks.err")  # of all ranks, in the working folder
SECONDS = 300  # for a job
GRACE = 30  # seconds that the other ranks have when one has failed: they may wait for it for ever


def fork() -> Callable[..., subprocess.CompletedProcess]:
    """Return the function that runs a job in the working folder: a module or a file, and its arguments.

    Its exit code is that of the first rank, its output that of all.
    """
    ours, theirs = socket.socketpair()
    if not os.fork():
        ours.close()
        serve(theirs.makefile("rw"))
    theirs.close()
    server = ours.makefile("rw")

    def run(*words: str, processes: int = 2) -> subprocess.CompletedProcess:
        for name in OUTPUT:
            Path(name).unlink(missing_ok=True)
        print(json.dumps([str(Path.cwd()), words, processes]), file=server, flush=True)
        code = json.loads(server.readline())
        return subprocess.CompletedProcess(words, code, *(Path(name).read_text() for name in OUTPUT))

    return run


def serve(tests: TextIO) -> NoReturn:
    """Run the jobs that the tests name, one a line, and give their exit codes."""
    for line in tests:
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
                rank_zero_only.rank = rank  # Lightning read the variable when it was imported
                become(words)
            ranks[pid] = rank
        print(json.dumps(wait(ranks)), file=tests, flush=True)
    os._exit(0)


def become(words: list[str]) -> NoReturn:
    """Run the program in this process, which then ends as the program does."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream, name in zip((1, 2), OUTPUT, strict=True):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", 1, closefd=False)  # pytest has its own
    sys.argv = list(words)
    code = 0
    try:
        if words[0].endswith(".py"):
            runpy.run_path(words[0], run_name="__main__")
        else:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


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
