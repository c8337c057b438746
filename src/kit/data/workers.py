"""What a loader's workers are set to."""

import os
import signal


def unheard(_: int) -> None:
    """Whoever stops a run often signals all of its processes, and the run's last steps need their images.

    Workers end with their loader; SIGTERM ends them the second time, should the loader never have told them to.
    """
    if os.name != "posix":
        return
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
