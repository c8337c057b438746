"""Set up the process that runs a verb, and end it with a message and an exit code."""

import ctypes
import gc
import logging
import os
import platform
import re
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

import torch.distributed

from kit.ground.errors import Stopped, UserError
from kit.ground.terminal import escape, escape_output

SEPARATOR = "\n  "  # before each file in an error message
# The error of a data worker contains a traceback, which ends with one of these names and the message.
WORKER_ERROR = re.compile("(?:UserError|BrokenFiles|UnreachableFiles): ")


def main(verb: Callable[[list[str]], None]) -> NoReturn:
    """Run a verb with the arguments of this process, and end the process. A user's mistake ends it with one line."""
    prepare()
    code, message = 0, ""
    try:
        verb(sys.argv[1:])
    except UserError as error:
        code, text = error.exit_code, WORKER_ERROR.split(str(error))[-1].strip()
        if text:  # if all processes stop, only the first one has a text
            message = f"error: {SEPARATOR.join(map(escape, text.split(SEPARATOR)))}"
    except Stopped as stopped:
        code, message = stopped.exit_code, str(stopped)
    except KeyboardInterrupt:
        code, message = 130, "stopped by Ctrl-C"
    except BrokenPipeError:  # such as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python prints once more when it ends
        code, message = 141, "stopped: the program that reads the output has ended"
    if message:
        print(message, file=sys.stderr)
    if code == 0 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # before Python deletes objects that its threads use
    sys.exit(code)


def prepare() -> None:
    """Set up garbage collection, memory allocation and messages."""
    gc.freeze()  # the collector ignores imported objects: this saves time, and memory in workers
    gc.enable()
    _keep_freed_memory()
    quiet()
    escape_output()


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


def quiet() -> None:
    """Suppress messages that need no action by the user."""
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
