"""Threads return results in order, and do not work far max_tasks of the caller."""

import itertools
import threading
import time

import pytest

from kit.ground.threads import map_in_threads


@pytest.mark.parametrize(("per_task", "max_tasks"), [(1, 1), (1, 8), (3, 2), (16, 64)])
def test_results_are_in_order(per_task, max_tasks):
    def square(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(map_in_threads(square, range(50), per_task, max_tasks)) == [n * n for n in range(50)]


def test_endless_input_is_read_as_needed():
    done = []
    results = map_in_threads(lambda number: done.append(number) or number, itertools.count(), per_task=2, max_tasks=3)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(done) <= 10 + 2 * 3


def test_exception_stops_the_waiting_work():
    begun, barrier = [], threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        if number == 0:
            raise ValueError("0")
        barrier.wait(0.05)
        return number

    with pytest.raises(ValueError, match="0"):
        list(map_in_threads(work, range(1000), per_task=1, max_tasks=200))
    assert len(begun) < 200
