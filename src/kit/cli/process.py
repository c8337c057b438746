"""What a process that runs a verb is set to, and how it ends."""

import ctypes
import gc
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn
from urllib.error import URLError

import torch.distributed

from kit.ground.errors import Stopped, UserError
from kit.ground.terminal import escape, escape_output

LISTED = "\n  "  # before each file of an error message that lists some


def main(verb: Callable[[list[str]], None]) -> NoReturn:
    """Runs a verb on the command line; a user's mistake ends in one line and its exit code."""
    prepare()
    try:
        verb(sys.argv[1:])
    except UserError as error:
        # An error of a worker process is wrapped in that process's traceback.
        message = re.split("(?:UserError|BrokenFiles|UnreachableFiles): ", str(error))[-1].strip()
        if message:  # where all processes stop, one speaks for them
            listed = LISTED.join(map(escape, message.split(LISTED)))
            print(f"error: {listed}", file=sys.stderr)
        sys.exit(error.exit_code)
    except URLError as error:
        print(f"error: cannot download ({error.reason}); for weights: --model.net.weights FILE", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        if str(stopped):
            print(stopped, file=sys.stderr)
        sys.exit(stopped.exit_code)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # such as `| head`, which has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is left to print at Python's end
        print("stopped: what reads the output has ended", file=sys.stderr)
        sys.exit(141)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # left to Python's end, its threads may outlive what they use: abort
    sys.exit(0)


def prepare() -> None:
    """Python's garbage collection, the memory of tensors, and what is said on the screen."""
    gc.freeze()  # what the imports made stays until the end: it is neither searched again nor copied by the workers
    gc.enable()
    _keep_freed_memory()
    quiet()
    escape_output()


def _keep_freed_memory() -> None:
    """Leaves what a training step frees to the next one.

    glibc gives large pieces back to the system, which hands them out again zeroed and page by page: a sixth of a step's
    time on a processor (mallopt(3); benchmarks/training.py).
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # musl's has none
        trim_threshold, mmap_threshold, one_gigabyte = -1, -3, 2**30
        libc.mallopt(trim_threshold, one_gigabyte)
        libc.mallopt(mmap_threshold, one_gigabyte)


def quiet() -> None:
    """Keeps out what a user can do nothing about."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.formatwarning = lambda message, *_: f"warning: {escape(' '.join(str(message).split()))}\n"
    for text in (
        "`isinstance(treespec, LeafSpec)` is deprecated",  # Lightning's own use of torch
        ".*does not have many workers",  # their number was chosen (default_num_workers)
        "The number of training batches .* is smaller than the logging interval",
        "It is recommended to use `self.log(",  # ours are equal on all processes already
        "Checkpoint directory .* exists and is not empty",  # a resumed run's
        "You're resuming from a checkpoint that ended before the epoch ended",  # ours begins where it ended
        "Found .* in eval mode at the start of training",  # fixed norms, see `TorchvisionDetector`
        "`?.fit(ckpt_path=",  # what `OnExceptionCheckpoint` would begin with, see `refuse_foreign_start`
        ".*litlogger|.*litmodels",
        r"\s*Unable to serialize instance",  # a default, which is left out of config.yaml
    ):
        warnings.filterwarnings("ignore", text.replace("(", r"\(").replace(")", r"\)"))
