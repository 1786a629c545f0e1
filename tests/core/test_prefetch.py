"""The only thread: order, errors, and how it ends."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager

import pytest
from harness import our_threads

from gpuio.core.prefetch import Prefetch, _close_all
from gpuio.core.timing import Meter
from gpuio.errors import BackendError, PipelineClosedError

NAME = "gpuio-test"


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    gc.collect()
    assert NAME not in our_threads()


@pytest.mark.parametrize("depth", [1, 3, 100])
def test_items_keep_their_order(depth):
    assert list(Prefetch(range(50), depth, name=NAME)) == list(range(50))


def test_items_may_be_none():
    assert list(Prefetch([None, 0, None], 1, name=NAME)) == [None, 0, None]


def test_an_empty_source_ends_at_once_and_stays_at_its_end():
    ahead = Prefetch([], 1, name=NAME)
    for _ in range(3):
        with pytest.raises(StopIteration):
            next(ahead)


@pytest.mark.parametrize("depth", [1, 4])
def test_the_source_is_never_more_than_depth_items_ahead(depth):
    made, taken, gate = [], 0, threading.Semaphore(0)

    def source():
        for n in range(20):
            made.append(n)
            gate.release()
            yield n

    ahead = Prefetch(source(), depth, name=NAME)
    for _ in range(depth + 1):  # those that wait, and the one that finds no room
        gate.acquire()
    while taken < 20:
        assert len(made) <= taken + depth + 1
        assert next(ahead) == taken
        taken += 1
        if taken + depth < 20:
            gate.acquire()
    assert made == list(range(20))


def test_the_source_runs_in_a_thread_of_that_name_inside_its_scope():
    seen = []

    @contextmanager
    def scope():
        seen.append("enter")
        yield
        seen.append("leave")

    def source():
        seen.append(threading.current_thread().name)
        yield 1

    ahead = Prefetch(source(), 1, name=NAME, scope=scope)
    assert list(ahead) == [1]
    ahead.close()
    assert seen == ["enter", NAME, "leave"]


def failing(count, error):
    yield from range(count)
    raise error


def test_a_failure_comes_once_after_the_items_before_it_with_the_name_of_the_thread():
    error = RuntimeError("broken")
    ahead = Prefetch(failing(2, error), 5, name=NAME)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(RuntimeError, match="broken") as caught:
        next(ahead)
    assert caught.value is error
    assert caught.value.__notes__ == [f"raised in thread {NAME!r}"]
    with pytest.raises(StopIteration):
        next(ahead)


def test_a_source_that_cannot_be_iterated_is_a_failure_too():
    class Broken:
        def __iter__(self):
            raise OSError("no disk")

    ahead = Prefetch(Broken(), 1, name=NAME)
    with pytest.raises(OSError, match="no disk"):
        next(ahead)
    with pytest.raises(StopIteration):
        next(ahead)


def test_a_failure_that_nobody_asked_for_is_dropped_on_close():
    ahead = Prefetch(failing(1, RuntimeError("broken")), 5, name=NAME)
    ahead.close()
    with pytest.raises(PipelineClosedError, match="this iterator was closed"):
        next(ahead)


def test_close_runs_what_the_source_has_to_finish_before_it_returns():
    done = []

    def source():
        try:
            while True:
                yield 1
        finally:
            done.append(True)

    ahead = Prefetch(source(), 2, name=NAME)
    assert next(ahead) == 1
    ahead.close()
    assert done == [True]
    assert NAME not in our_threads()
    ahead.close()
    with pytest.raises(PipelineClosedError, match="this iterator was closed"):
        next(ahead)


def test_close_wakes_a_source_that_waits():
    class Gate:
        def __init__(self):
            self.event = threading.Event()

        def close(self):
            self.event.set()

    gate, reached = Gate(), threading.Event()

    def source():
        reached.set()
        gate.event.wait()
        raise PipelineClosedError("woken")
        yield

    ahead = Prefetch(source(), 1, name=NAME, waits=(gate,))
    reached.wait()
    ahead.close()
    assert NAME not in our_threads()


@pytest.mark.parametrize("ask", [next, Prefetch.is_over])
@pytest.mark.parametrize("end", [Prefetch.close, Prefetch.interrupt])
def test_close_wakes_a_consumer_that_waits(end, ask):
    release, asked, told = threading.Event(), threading.Event(), []

    def source():
        asked.set()
        release.wait()
        yield 1

    ahead = Prefetch(source(), 1, name=NAME)

    def consume():
        with pytest.raises(PipelineClosedError, match="this iterator was closed"):
            ask(ahead)
        told.append(True)

    consumer = threading.Thread(target=consume)
    consumer.start()
    asked.wait()
    closer = threading.Thread(target=end, args=[ahead])
    closer.start()
    consumer.join(30)
    release.set()
    closer.join(30)
    ahead.close()
    assert told == [True]


def test_each_item_goes_to_one_of_several_consumers():
    ahead, seen = Prefetch(range(1000), 3, name=NAME), [[], [], []]
    consumers = [threading.Thread(target=lambda own=own: own.extend(ahead)) for own in seen]
    for consumer in consumers:
        consumer.start()
    for consumer in consumers:
        consumer.join(30)
    assert sorted(seen[0] + seen[1] + seen[2]) == list(range(1000))
    assert all(own == sorted(own) for own in seen)


def test_whether_it_is_over_is_known_without_taking_anything():
    ahead = Prefetch(range(2), 1, name=NAME)
    assert [ahead.is_over(), next(ahead), ahead.is_over(), next(ahead)] == [False, 0, False, 1]
    assert ahead.is_over()
    assert ahead.is_over()
    broken = Prefetch(failing(0, RuntimeError("broken")), 1, name=NAME)
    assert not broken.is_over()
    assert not broken.is_spent()
    with pytest.raises(RuntimeError, match="broken"):
        next(broken)
    assert broken.is_over()
    assert broken.is_spent()


def test_whether_it_is_spent_is_told_without_waiting():
    release = threading.Event()
    slow = Prefetch(iter(release.wait, True), 1, name=NAME)
    assert not slow.is_spent()
    release.set()
    assert slow.is_over()
    assert slow.is_spent()


def test_a_thread_that_cannot_be_started_is_one_error_and_leaves_nothing(fail_start):
    begun = Prefetch(range(1000), 1, name=NAME)
    fail_start(1)
    with pytest.raises(BackendError, match="'other' cannot be started: can't start"):
        Prefetch(begun, 1, name="other")
    assert NAME not in our_threads()  # what it would have consumed is closed
    assert list(Prefetch(range(3), 1, name=NAME)) == [0, 1, 2]
    _close_all()


def test_garbage_collection_may_hold_a_lock_that_the_thread_needs(monkeypatch):
    monkeypatch.setattr("gpuio.core.prefetch._COLLECT_TIMEOUT", 0.01)
    lock, reached = threading.Lock(), threading.Event()

    def source():
        yield 1
        reached.set()
        with lock:
            yield 2

    with lock:
        ahead = Prefetch(source(), 1, name=NAME)
        assert next(ahead) == 1
        reached.wait()
        del ahead
        gc.collect()
    for thread in threading.enumerate():
        if thread.name == NAME:
            thread.join(30)


def test_a_failure_keeps_nothing_alive_once_it_is_dropped():
    class Item:
        pass

    items = []

    def source():
        item = Item()
        items.append(weakref.ref(item))
        yield 1
        raise RuntimeError("broken")

    gc.disable()
    try:
        ahead = Prefetch(source(), 1, name=NAME)
        assert next(ahead) == 1
        with contextlib.suppress(RuntimeError):
            next(ahead)
        ahead.close()
        assert items[0]() is None
    finally:
        gc.enable()


def test_stages_in_a_row_are_closed_from_the_last_one():
    closed = []

    def source():
        try:
            yield from range(1000)
        finally:
            closed.append("source")

    first = Prefetch(source(), 1, name=NAME)
    second = Prefetch((n + 1 for n in first), 1, name=NAME)
    assert next(second) == 1
    second.close()
    first.close()
    assert closed == ["source"]
    assert NAME not in our_threads()


def test_garbage_is_closed():
    done = threading.Event()

    def source():
        try:
            while True:
                yield 1
        finally:
            done.set()

    ahead = Prefetch(source(), 2, name=NAME)
    assert next(ahead) == 1
    del ahead
    gc.collect()
    assert done.is_set()
    assert NAME not in our_threads()


def test_an_item_lives_no_longer_than_its_consumer_wants():
    class Item:
        pass

    items = []

    def source():
        for _ in range(3):
            item = Item()
            items.append(weakref.ref(item))
            yield item
            del item

    ahead = Prefetch(source(), 1, name=NAME)
    first = next(ahead)
    assert items[0]() is first
    del first
    assert sum(1 for _ in ahead) == 2
    gc.collect()
    assert [item() for item in items] == [None] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_in_a_forked_child_asking_is_an_error_and_nothing_hangs():
    script = f"""
import os, sys
from gpuio.errors import PipelineClosedError
from gpuio.core.prefetch import Prefetch
ahead = Prefetch(iter(range(100)), 2, name={NAME!r})
assert next(ahead) == 0
child = os.fork()
if child == 0:
    try:
        next(ahead)
    except PipelineClosedError as error:
        ahead.close()
        del ahead
        code = 7 if "make a new one in the child" in str(error) else 8
        sys.exit(code if list(Prefetch([1, 2], 1, name={NAME!r})) == [1, 2] else 9)
    sys.exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert next(ahead) == 1
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_ends_although_a_thread_of_the_parent_was_in_the_exchange():
    script = f"""
import os, sys, threading
from gpuio.core.prefetch import Prefetch
ahead = Prefetch(iter(range(100)), 2, name={NAME!r})
held, release = threading.Event(), threading.Event()
def hold():
    with ahead._exchange._changed:
        held.set()
        release.wait()
thread = threading.Thread(target=hold)
thread.start()
held.wait()
child = os.fork()
if child == 0:
    ahead.interrupt()
    ahead.close()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
release.set()
thread.join()
assert next(ahead) == 0
"""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_the_interpreter_can_exit_at_any_time():
    script = f"""
from gpuio.core.prefetch import Prefetch
def source():
    try:
        while True:
            yield 1
    finally:
        print("finished")
ahead = Prefetch(source(), 2, name={NAME!r})
next(ahead)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "finished\n", "")


def test_time_is_accounted_for():
    meter = Meter(NAME)

    def slow():
        for number in range(4):
            time.sleep(0.02)
            yield number

    for _ in range(2):  # one meter for two of them
        ahead = Prefetch(slow(), 1, name=NAME, meter=meter)
        assert next(ahead) == 0
        time.sleep(0.1)
        assert list(ahead) == [1, 2, 3]
    assert meter.making.read() >= 8 * 0.02
    assert meter.blocked.read() >= 2 * 0.02
    assert meter.awaited.read() >= 2 * 2 * 0.02 * 0.9
    assert 2 * 0.02 * 0.9 <= meter.first <= meter.awaited.read()


def test_waiting_counts_before_it_is_over():
    ahead = Prefetch(range(5), 1, name=NAME)
    until(lambda: ahead.meter.blocked.read() > 0.05)
    release = threading.Event()
    slow = Prefetch(iter(release.wait, True), 1, name=NAME)
    until(lambda: slow.meter.making.read() > 0.05)
    release.set()
    ahead.close()
    slow.close()


def until(condition):
    """Wait for something that is to become true."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_at_exit_threads_end_before_what_they_use_is_finalized():
    code = """if True:
        import weakref
        from gpuio.core.prefetch import Prefetch

        def source():
            try:
                while True:
                    yield decoder
            finally:
                print("ended")

        class Decoder:
            pass

        decoder = Decoder()
        weakref.finalize(decoder, print, "finalized")
        ahead = Prefetch(source(), 1, name="ahead")
        next(ahead)
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["ended", "finalized"]
