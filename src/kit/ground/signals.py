"""End a process in one line, and with the usual exit code, at Ctrl-C, SIGTERM and SIGHUP.

A process of a verb answers these signals from its first import to its end:

- While Python imports the libraries, `end_at_once`.
- While a verb runs, `raise_stopped`, so that temporary files are removed.
- While a model is trained, `kit.safeguards.resume.signals`, which lets the run save a checkpoint first.
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
ENDING = tuple(signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGHUP") if name in signal.Signals.__members__)
SECONDS_OF_ONE_REQUEST = 2.0  # `timeout` sends its signal twice, and so does Ctrl-C under some launchers

_raised_at = -SECONDS_OF_ONE_REQUEST  # when `raise_stopped` last raised an exception


def listen(handle: Callable[[int, Any], None], numbers: Iterable[int] = ENDING) -> dict[int, Any]:
    """Handle signals, except those that the process was started to ignore, such as SIGHUP after `nohup`.

    Only the main thread can do this. In other threads nothing changes. Processes that are forked from this one ignore
    the signals, until they set their own handlers.

    Returns:
        the previous handlers, by signal
    """
    process = os.getpid()

    def handle_here(number: int, frame: Any) -> None:
        if os.getpid() == process:
            handle(number, frame)

    if threading.current_thread() is not threading.main_thread():
        return {}
    before = {number: signal.getsignal(number) for number in numbers}
    return {number: signal.signal(number, handle_here) for number in before if before[number] != signal.SIG_IGN}


def end_at_once(number: int, _: Any) -> None:
    """End the process without cleaning up."""
    stopped = stop(number)
    if str(stopped):
        write_line(str(stopped))
    os._exit(stopped.exit_code)


def raise_stopped(number: int, _: Any) -> None:
    """Raise `Stopped`."""
    global _raised_at
    if time.monotonic() - _raised_at >= SECONDS_OF_ONE_REQUEST:
        _raised_at = time.monotonic()
        raise stop(number)


def stop_listening() -> None:
    """Let the system end the process at a signal.

    Python's handlers do not run while a library waits for other processes, which may have ended at the same signal.
    """
    for number in listen(raise_stopped):
        signal.signal(number, signal.SIG_DFL)


def stop(number: int) -> Stopped:
    """Return the exception that ends this process. Only the first process on a machine has a message."""
    name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
    return Stopped(f"stopped by {name}" if os.environ.get("LOCAL_RANK", "0") == "0" else "", number)


def find_stopped(error: BaseException | None) -> Stopped | None:
    """Return an exception if it is `Stopped`, or else the `Stopped` during whose handling it was raised, or None."""
    while error is not None and not isinstance(error, Stopped):
        error = error.__context__
    return error


def write_line(text: str) -> None:
    """Write a line to the standard error. Unlike `print`, a signal handler may use it while it interrupts `print`."""
    with suppress(OSError):  # it is closed, or on a full disk
        line = f"{text}\n"
        os.write(2, (terminal.above_live_lines(line) if os.isatty(2) else line).encode())
