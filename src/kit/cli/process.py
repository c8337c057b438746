"""Set up the process that runs a verb, and end it with a message and an exit code."""

import ctypes
import gc
import logging
import os
import platform
import sys
import threading
import warnings
from collections.abc import Callable
from multiprocessing import active_children
from typing import NoReturn

import torch.distributed

from kit.cli.settings import explain
from kit.ground import signals
from kit.ground.errors import Stopped, UserError
from kit.ground.terminal import escape, guard_output
from kit.ground.unexpected import describe, message_of

SEPARATOR = "\n  "  # before each file in an error message


def main(verb: Callable[[list[str]], None]) -> NoReturn:
    """Run a verb with the arguments of this process, and end the process.

    After a mistake of the user, the process prints one line. `kit.ground.unexpected` describes any other error.
    """
    prepare()
    code, message = 0, ""
    try:
        try:
            verb(sys.argv[1:])
        except BaseException as error:  # libraries may fail while they clean up after a signal
            raise (signals.find_stopped(error) or error) from error.__cause__
    except UserError as error:
        code, text = error.exit_code, message_of(error)
        if text:  # if all processes stop, only the first one has a text
            message = f"error: {SEPARATOR.join(map(escape, text.split(SEPARATOR)))}"
    except Stopped as stopped:
        code, message = stopped.exit_code, str(stopped)
    except KeyboardInterrupt:
        code, message = 130, "stopped by Ctrl-C"
    except Exception as error:
        mistake = explain(error)
        code, message = (2, f"error: {mistake}") if mistake else (1, describe(error))
    signals.listen(signals.end_at_once)
    for worker in active_children():
        worker.terminate()  # at exit, Python sends a second SIGTERM, which ends the workers: see `ignore_signals`
    if message:
        print(message, file=sys.stderr)
    if code == 0 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # before Python deletes objects that the group's threads use
    sys.exit(code)


def prepare() -> None:
    """Set up signals, garbage collection, memory allocation and messages."""
    signals.listen(signals.raise_stopped)
    gc.freeze()  # the collector ignores imported objects: this saves time, and memory in workers
    gc.enable()
    _keep_freed_memory()
    quiet()
    guard_output()


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory, so that the next training step can use it.

    By default it returns large blocks to the system, which fills them with zeros when they are allocated again. This
    takes a sixth of a step's time on a CPU (mallopt(3); benchmarks/training.py).
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        trim_threshold, mmap_threshold, one_gigabyte = -1, -3, 2**30
        libc.mallopt(trim_threshold, one_gigabyte)
        libc.mallopt(mmap_threshold, one_gigabyte)


def _report_exception(details: threading.ExceptHookArgs) -> None:
    if not isinstance(details.exc_value, OSError):  # on a full disk, TensorBoard's thread ends, and its logger warns
        threading.__excepthook__(details)


def quiet() -> None:
    """Suppress messages that need no action by the user."""
    threading.excepthook = _report_exception
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.formatwarning = lambda message, *_: f"warning: {escape(' '.join(str(message).split()))}\n"
    for text in (
        "`isinstance(treespec, LeafSpec)` is deprecated",  # in Lightning's own code
        ".*does not have many workers",  # `default_num_workers` chose the number
        "The number of training batches .* is smaller than the logging interval",
        "It is recommended to use `self.log(",  # all processes log the same values
        "Checkpoint directory .* exists and is not empty",  # the run is resumed
        "You're resuming from a checkpoint that ended before the epoch ended",  # `ExactResume` continues in the epoch
        "Found .* in eval mode at the start of training",  # frozen batch norm, see `TorchvisionDetector`
        ".*litlogger|.*litmodels",
        r"\s*Unable to serialize instance",  # see `SavedConfig`
    ):
        warnings.filterwarnings("ignore", text.replace("(", r"\(").replace(")", r"\)"))
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # `kit.checks` reports such files by name
