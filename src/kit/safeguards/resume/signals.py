"""Note Ctrl-C, SIGTERM and SLURM's signals, so that the run can end at a moment at which nothing is lost."""

import os
import signal
import threading
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment

from kit.ground.errors import Stopped


class Signals:
    """The signal that this process has received. A second Ctrl-C stops the process at once.

    received: the number of the signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self, trainer: L.Trainer) -> None:
        """Replace Lightning's handlers, which save in the middle of a step.

        At the end of the run, Lightning restores the handlers from before the run.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        launcher: Any = trainer.strategy.launcher

        def note(number: int, _: Any) -> None:
            if number == signal.SIGINT and self.received == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a third one must not interrupt the end of the process
                raise KeyboardInterrupt
            self.received = number
            if trainer.is_global_zero and number == signal.SIGINT:  # `print` may be what was interrupted
                os.write(2, b"\nstopping after this step; a second Ctrl-C stops at once\n")
            if launcher is not None:
                launcher.kill(signal.SIGTERM)  # to the processes that this one has started

        numbers = [signal.SIGINT, signal.SIGTERM]
        if SLURMEnvironment.detect() and os.name == "posix":
            numbers += [signal.SIGUSR1, signal.SIGUSR2]
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, note)

    def stopped(self, command: str) -> Stopped:
        """Return the exception that ends the run, with the command that continues it."""
        name = signal.Signals(self.received or signal.SIGTERM).name
        name, exit_code = ("Ctrl-C", 130) if name == "SIGINT" else (name, 143)
        return Stopped(f"stopped by {name}; to go on: {command}", exit_code)


class Agreement:
    """Tell all processes what any of them wants, one call later: so none waits, and all act at the same step."""

    def __init__(self, processes: int) -> None:
        self._group: Any = torch.distributed.new_group(backend="gloo") if processes > 1 else None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def __call__(self, *wishes: bool) -> list[bool]:
        """Return for each wish whether any process had it at the previous call.

        Args:
            wishes: as many at each call. All processes must call this equally often.
        """
        if self._group is None:
            return list(wishes)
        agreed = [False] * len(wishes)
        if self._pending is not None:
            work, answer = self._pending
            work.wait()
            agreed = answer.bool().tolist()
        sent = torch.tensor(wishes, dtype=torch.int32)
        work = torch.distributed.all_reduce(sent, torch.distributed.ReduceOp.MAX, self._group, async_op=True)
        self._pending = work, sent
        return agreed
