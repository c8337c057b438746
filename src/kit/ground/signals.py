"""End a process at Ctrl-C, SIGTERM or SIGHUP, with a message of one line and the usual exit code.

A process that runs a verb, such as `fit`, handles these signals from its first import to its end:

- `end_at_once` handles them while Python imports the libraries.
- `raise_stopped` handles them while a verb runs, so that temporary files are removed.
- `kit.safeguards.resume.signals` handles them while a model is trained, so that the run saves a checkpoint first.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from kit.ground import terminal
from kit.ground.errors import Stopped

# SIGHUP says that the terminal was closed. Windows lacks it.
STOP_SIGNALS = tuple(signal.Signals[n] for n in ("SIGINT", "SIGTERM", "SIGHUP") if n in signal.Signals.__members__)
# Signals within this time are one request: `timeout` sends its signal twice, and so does Ctrl-C under some launchers.
SECONDS_OF_ONE_REQUEST = 2.0

_raised_at = -SECONDS_OF_ONE_REQUEST  # when `raise_stopped` last raised an exception


def listen(handle: Callable[[int, Any], None], numbers: Iterable[int] = STOP_SIGNALS) -> dict[int, Any]:
    """Handle signals, except those that the process was started to ignore, such as SIGHUP after `nohup`.

    Only the main thread can do this. In other threads nothing changes. Processes that are forked from this one ignore
    the signals, until they set their own handlers.

    Returns:
        the previous handlers, by signal.
    """
    process = os.getpid()

    def handle_here(number: int, frame: Any) -> None:
        if os.getpid() == process:
            handle(number, frame)

    if threading.current_thread() is not threading.main_thread():
        return {}
    not_ignored = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handle_here) for number in not_ignored}


def end_at_once(number: int, _: Any) -> None:
    """End the process without cleaning up."""
    stopped = stop_exception(number)
    if str(stopped):
        write_line(str(stopped))
    os._exit(stopped.exit_code)


def raise_stopped(number: int, _: Any) -> None:
    """Raise `Stopped`, but only once in `SECONDS_OF_ONE_REQUEST`."""
    global _raised_at
    if time.monotonic() - _raised_at >= SECONDS_OF_ONE_REQUEST:
        _raised_at = time.monotonic()
        raise stop_exception(number)


def stop_listening() -> None:
    """Let the system end the process at a signal.

    A library may wait for other processes that the same signal has ended. Such a wait does not end, and Python's
    handlers do not run during it.
    """
    for number in listen(raise_stopped):  # ignored signals are left out
        signal.signal(number, signal.SIG_DFL)


def stop_exception(number: int) -> Stopped:
    """Return the exception that ends this process. Only the first process on a machine has a message."""
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return Stopped(f"stopped by {name}" if os.environ.get("LOCAL_RANK", "0") == "0" else "", number)


def find_stopped(error: BaseException | None) -> Stopped | None:
    """Return the first `Stopped` among an error and the exceptions of its chain `__context__`, or None."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error


def write_line(text: str) -> None:
    """Write a line to standard error. Unlike `print`, this works in a signal handler that has interrupted `print`."""
    with suppress(OSError):  # standard error is closed, or goes to a full disk
        line = f"{text}\n"
        os.write(2, (terminal.replacing_live_lines(line) if os.isatty(2) else line).encode())
