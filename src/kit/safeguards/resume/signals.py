"""Receive Ctrl-C, SIGTERM and SLURM's signals, so that the run can stop after it has saved a checkpoint."""

import os
import signal
import threading
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment

from kit.ground.errors import Stopped


class Signals:
    """Signal handlers that store the signal. A second Ctrl-C stops the process at once.

    Attributes:
        received: the number of the last signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self, trainer: L.Trainer) -> None:
        """Replace Lightning's handlers, which would save in the middle of a step.

        Lightning restores the original handlers at the end of the run.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        launcher: Any = trainer.strategy.launcher

        def handle(number: int, _: Any) -> None:
            if number == signal.SIGINT and self.received == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a third one must not interrupt the clean-up
                raise KeyboardInterrupt
            self.received = number
            if trainer.is_global_zero and number == signal.SIGINT:  # not `print`, which the signal may have interrupted
                os.write(2, b"\nstopping after this step; a second Ctrl-C stops at once\n")
            if launcher is not None:
                launcher.kill(signal.SIGTERM)  # sends the signal to the processes that this one has started

        numbers = [signal.SIGINT, signal.SIGTERM]
        if SLURMEnvironment.detect() and os.name == "posix":
            numbers += [signal.SIGUSR1, signal.SIGUSR2]
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handle)

    def stop_exception(self, command: str) -> Stopped:
        """Return the exception that ends the run and names the command that continues it."""
        name = signal.Signals(self.received or signal.SIGTERM).name
        name, exit_code = ("Ctrl-C", 130) if name == "SIGINT" else (name, 143)
        return Stopped(f"stopped by {name}; to continue: {command}", exit_code)


class Agreement:
    """Share requests among all processes without waiting: the answer comes at the next call, on all processes."""

    def __init__(self, processes: int) -> None:
        self._group: Any = torch.distributed.new_group(backend="gloo") if processes > 1 else None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def __call__(self, *requests: bool) -> list[bool]:
        """Return for each request whether any process made it at the previous call.

        All processes must call this equally often, and with the same number of requests.
        """
        if self._group is None:
            return list(requests)
        agreed = [False] * len(requests)
        if self._pending is not None:
            work, answer = self._pending
            work.wait()
            agreed = answer.bool().tolist()
        sent = torch.tensor(requests, dtype=torch.int32)
        work = torch.distributed.all_reduce(sent, torch.distributed.ReduceOp.MAX, self._group, async_op=True)
        self._pending = work, sent
        return agreed
