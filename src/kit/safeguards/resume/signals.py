"""Store the signals that stop a run, so that the run can save a checkpoint first."""

import os
import signal
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.environments import SLURMEnvironment

from kit.ground import signals


class Signals:
    """Signal handlers that store the signal. A second Ctrl-C stops the process at once.

    Attributes:
        received: the number of the last signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._old_handlers: dict[int, Any] = {}  # by signal number, until `restore` sets them again

    def listen(self, trainer: L.Trainer) -> None:
        """Store signals until `restore` is called."""
        if self._old_handlers:
            return
        launcher = trainer.strategy.launcher

        def handle(number: int, _: Any) -> None:
            if number == signal.SIGINT and self.received == signal.SIGINT:
                signal.signal(signal.SIGINT, signal.SIG_IGN)  # a third Ctrl-C must not interrupt the clean-up
                raise KeyboardInterrupt
            self.received = number
            if trainer.is_global_zero and number == signal.SIGINT:
                signals.write_line("\nstopping after this step; a second Ctrl-C stops at once")
            if launcher is not None:
                launcher.kill(signal.SIGTERM)  # sends the signal to the processes that this one has started

        numbers = [*signals.STOP_SIGNALS]
        if SLURMEnvironment.detect() and os.name == "posix":
            numbers += [signal.SIGUSR1, signal.SIGUSR2]
        self._old_handlers = signals.listen(handle, numbers)

    def restore(self) -> None:
        """Restore the handlers from before `listen`."""
        for number, handler in self._old_handlers.items():
            if handler is not None:  # None: Python had not set the handler
                signal.signal(number, handler)
        self._old_handlers = {}


class Agreement:
    """Tell all processes what any of them requests, without waiting: a call returns the result of the previous one."""

    def __init__(self, processes: int) -> None:
        self._group: Any = torch.distributed.new_group(backend="gloo") if processes > 1 else None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def __call__(self, *requests: bool) -> list[bool]:
        """Return for each request whether any process made it at the previous call.

        With one process, return the requests. All processes must call this equally often, with the same number of
        requests.
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
