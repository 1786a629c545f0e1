"""Work done by threads, results in order."""

from __future__ import annotations

import threading
import time

import pytest

from gpuio.core.parallel_map import in_order


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_results_come_in_the_order_of_the_work(threads):
    def work(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return -number

    assert list(in_order(work, range(100), threads=threads, name="t")) == [-i for i in range(100)]


def test_only_a_little_work_is_done_ahead():
    taken = []
    results = in_order(abs, (taken.append(i) or i for i in range(10**9)), threads=2, name="t")
    next(results)
    results.close()
    assert len(taken) < 100


def test_a_failure_comes_in_its_place():
    results = in_order(lambda n: 1 // n, [1, 1, 0, 1], threads=2, name="t")
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_at_the_end_no_thread_is_left():
    assert list(in_order(abs, range(10), threads=3, name="test-ordered")) == list(range(10))
    assert not [t for t in threading.enumerate() if t.name.startswith("test-ordered")]


def test_closing_drops_what_has_not_begun_and_does_not_wait_for_what_has():
    begun, go_on = [], threading.Event()

    def work(number: int) -> int:
        begun.append(number)
        return number if number == 0 else go_on.wait(60)

    results = in_order(work, range(100), threads=1, name="test-ordered")
    assert next(results) == 0
    (thread,) = [t for t in threading.enumerate() if t.name.startswith("test-ordered")]
    results.close()
    assert thread.is_alive()
    go_on.set()
    thread.join(60)
    assert not thread.is_alive()
    assert set(begun) <= {0, 1}
