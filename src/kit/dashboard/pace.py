"""How often pictures are drawn: in a share of the run's time, ever more rarely, and not without end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

GROWTH = 1.15  # of the run's time from one drawing to the next: 70 in a day
MOST_BYTES = 60e6  # of a run's pictures


class Pace:
    """
    Args:
        budget: the share of the run's time that may be spent.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.spent, self.bytes = 0.0, 0  # seconds, and what was written
        self._began, self._drawn = time.perf_counter(), 0.0

    def begin(self, size: int = 0) -> None:
        """The run's time starts, or starts again; its log has so many bytes already."""
        self.bytes = size
        self._began, self._drawn = time.perf_counter(), 0.0

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._began

    @property
    def affordable(self) -> bool:
        """Whether the time that was spent so far is within the budget."""
        return self.spent <= self.budget * self.elapsed

    @property
    def due(self) -> bool:
        return self.affordable and self.elapsed >= GROWTH * self._drawn and self.bytes < MOST_BYTES

    @contextmanager
    def spending(self) -> Iterator[None]:
        """What is done here counts."""
        since = time.perf_counter()
        try:
            yield
        finally:
            self.spent += time.perf_counter() - since

    def drawn(self, size: int) -> None:
        """Pictures of so many bytes were written."""
        self.bytes += size
        self._drawn = self.elapsed
