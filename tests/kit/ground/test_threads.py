"""Results come in order, threads do not work far ahead of the caller, and only slow files are read in threads."""

import itertools
import threading
import time

import pytest

from kit.ground import threads
from kit.ground.threads import map_files, map_in_threads


@pytest.mark.parametrize(("chunk_size", "max_chunks"), [(1, 1), (1, 8), (3, 2), (16, 64)])
def test_results_are_in_order(chunk_size, max_chunks):
    def square(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number * number

    assert list(map_in_threads(square, range(50), chunk_size, max_chunks)) == [n * n for n in range(50)]


def test_endless_input_is_read_as_needed():
    done = []
    results = map_in_threads(lambda number: done.append(number) or number, itertools.count(), 2, 3)
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
        list(map_in_threads(work, range(1000), chunk_size=1, max_chunks=200))
    assert len(begun) < 200


def test_only_slow_files_are_read_in_threads(monkeypatch):
    monkeypatch.setattr(threads, "FILES_IN_THREADS", 40)

    def read(index: int) -> tuple[int, int]:
        time.sleep(0.005 * (20 <= index < 100))
        return index, threading.get_ident()

    monkeypatch.setattr(threads, "QUICK_SECONDS", 1)
    results = list(map_files(read, range(150)))
    assert results == [(index, threading.get_ident()) for index in range(150)]
    monkeypatch.setattr(threads, "QUICK_SECONDS", 0.001)
    monkeypatch.setattr(threads, "MAX_DELAY", 0.02)
    results = list(map_files(read, range(150)))
    assert [index for index, _ in results] == list(range(150))
    assert len({ident for _, ident in results[30:60]} - {threading.get_ident()}) > 1  # 5 ms a file
    monkeypatch.setattr(threads, "QUICK_SECONDS", 1)
    monkeypatch.setattr(threads, "MAX_DELAY", -1)  # each file is too slow for the loop
    in_loop = [index for index, ident in map_files(read, range(150)) if ident == threading.get_ident()]
    assert in_loop == [0, 41, 82, 123]  # the loop is tried again


def test_slow_caller_does_not_start_threads():
    for ident in map_files(lambda _: threading.get_ident(), range(30)):
        time.sleep(0.005)
        assert ident == threading.get_ident()
