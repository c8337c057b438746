"""Ctrl-C, SIGTERM and SLURM's signals: they are noted, and the run ends at a moment that loses nothing."""

import os
import signal
import threading
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment

from kit.ground.errors import Stopped


class Signals:
    """The signal that asks this process to stop, if one came. A second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self, trainer: L.Trainer) -> None:
        """In place of Lightning's handlers, which save in the middle of a step; at the end of the run it puts back
        those that were there before."""
        if threading.current_thread() is not threading.main_thread():
            return
        launcher: Any = trainer.strategy.launcher
        zero = trainer.is_global_zero

        def note(number: int, _: Any) -> None:
            if number == signal.SIGINT and self.received == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # what ends now is not to be disturbed
                raise KeyboardInterrupt
            self.received = number
            if zero and number == signal.SIGINT:  # not print, which may be what was interrupted
                os.write(2, b"\nstopping after this step; a second Ctrl-C stops at once\n")
            if launcher is not None:  # the processes that this one has started
                launcher.kill(signal.SIGTERM)

        numbers = [signal.SIGINT, signal.SIGTERM]
        if SLURMEnvironment.detect() and os.name == "posix":
            numbers += [signal.SIGUSR1, signal.SIGUSR2]
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, note)

    def stopped(self, command: str) -> Stopped:
        """The end of the run, with the command that goes on."""
        by_hand = self.received == signal.SIGINT
        name = "Ctrl-C" if by_hand else signal.Signals(self.received or signal.SIGTERM).name
        return Stopped(f"stopped by {name}; to go on: {command}", 130 if by_hand else 143)


class Agreement:
    """What any process wants is known to all, a step later: so nobody waits, and all do the same at the same step."""

    def __init__(self, processes: int) -> None:
        self._group: Any = torch.distributed.new_group(backend="gloo") if processes > 1 else None
        self._asked: tuple[Any, torch.Tensor] | None = None

    def __call__(self, *wishes: bool) -> list[bool]:
        """Args: as many at each call, and called as often in each process."""
        if self._group is None:
            return list(wishes)
        agreed = [False] * len(wishes)
        if self._asked is not None:
            work, answer = self._asked
            work.wait()
            agreed = answer.bool().tolist()
        asked = torch.tensor(wishes, dtype=torch.int32)
        maximum = torch.distributed.ReduceOp.MAX
        self._asked = torch.distributed.all_reduce(asked, maximum, self._group, async_op=True), asked
        return agreed
