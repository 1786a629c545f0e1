"""Iterators among threads and processes, every kind of them: each line of `gpuio/core/guard.py`."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import os
import threading

import numpy as np
import pytest
from harness import our_threads

import gpuio
import gpuio as mx
from gpuio.core.guard import Guard, SharedLock
from gpuio.errors import BackendError, PipelineClosedError
from gpuio.pipeline.decode import registry
from gpuio.pipeline.decode.portable import PortableDecoder

ALL = list(range(20))
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def together(*works):
    """Run each in a thread of its own, from the same moment on; what each returned or raised."""
    barrier, found = threading.Barrier(len(works)), [None] * len(works)

    def run(number, work):
        barrier.wait()
        try:
            found[number] = work()
        except Exception as error:
            found[number] = error

    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return found


# Several threads


def test_threads_share_the_batches_out(kind):
    it = kind.make()
    for _ in range(3):
        loop = iter(it)

        def consume(loop=loop):
            return kind.seen(iter(lambda: next(loop, None), None))

        parts = together(consume, consume, consume)
        assert sorted(itertools.chain(*parts)) == ALL
        it.reset()


def test_a_loop_begins_in_mid_epoch_while_another_one_waits_for_a_batch(kind):
    it = kind.make()
    first = kind.labels(next(iter(it)))
    source = getattr(it, "source", it)
    with source._guard:  # as that of a thread that waits
        (loop,) = together(lambda: iter(it))
    assert sorted(first + kind.seen(loop)) == ALL


def test_reset_in_another_thread_begins_a_whole_epoch(kind):
    it = kind.make()
    for _ in range(5):
        loop = iter(it)
        error, _ = together(lambda loop=loop: next(loop) and None, it.reset)
        assert error is None
        it.reset()
        assert kind.seen(it) == ALL


def test_close_in_another_thread_is_noticed_and_final(kind):
    for _ in range(5):
        it = kind.make()

        def consume(it=it):
            return kind.seen(it)

        seen, nothing = together(consume, it.close)
        assert nothing is None
        assert seen == ALL or isinstance(seen, PipelineClosedError)
        for use in (it.reset, lambda it=it: next(iter(it))):
            with pytest.raises(PipelineClosedError, match="this iterator was closed"):
                use()
        it.close()
    gc.collect()
    assert not our_threads()


def test_many_close_at_once(kind):
    it = kind.make()
    next(iter(it))
    assert together(*[it.close] * 4) == [None] * 4
    assert not our_threads()


# A child process


def in_child(work):
    """What is returned or raised by a forked child."""
    mine, theirs = multiprocessing.Pipe()

    def answer():
        try:
            theirs.send(work())
        except Exception as error:
            theirs.send(error)

    child = multiprocessing.get_context("fork").Process(target=answer)
    child.start()
    assert mine.poll(60), "the child does not answer"
    found = mine.recv()
    child.join(60)
    assert child.exitcode == 0
    return found


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("use", ["next", "epoch", "reset"])
def test_a_child_gets_right_batches_or_an_error_with_a_name(kind, use):
    it = kind.make()
    first = kind.labels(next(iter(it)))

    def child():
        if use == "reset":
            it.reset()
        if use == "next":
            return kind.labels(next(iter(it)))
        return kind.seen(it)

    found = in_child(child)
    if isinstance(found, Exception):
        assert isinstance(found, PipelineClosedError)
        assert "make a new one in the child process" in str(found)
    elif use == "reset":
        assert found == ALL
    else:
        assert not set(found) & set(first)
    assert in_child(it.close) is None
    assert in_child(lambda: kind.seen(kind.make())) == ALL
    assert sorted(first + kind.seen(it)) == ALL  # the parent goes on


@needs_fork
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_of_its_parent(twenty):
    from gpuio import ImageRecordIter

    it = ImageRecordIter(twenty / "a.rec", (3, 8, 8), 5)
    held, release = threading.Event(), threading.Event()

    def hold():
        with it._guard:
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    try:
        assert in_child(lambda: len(list(it))) == 4  # it had not begun
        it._guard.begin()
        uses = (it.next, it.reset, it.hard_reset, it.state_dict, lambda: it.set_epoch(1))
        for use in (*uses, lambda: list(it.numpy()), lambda: it.replay({"record": [0]})):
            assert isinstance(in_child(use), PipelineClosedError)
        assert in_child(it.close) is None
    finally:
        release.set()
        thread.join()
    it.close()


# Threads that cannot be started


def test_each_thread_in_turn_cannot_be_started(kind, fail_start):
    before, number, failed = set(threading.enumerate()), 0, True
    while failed:
        number += 1
        it, seen = kind.make(), []
        left = fail_start(number)
        try:
            for batch in it:
                seen += kind.labels(batch)
        except BackendError as error:
            assert "cannot be started: can't start new thread" in str(error)  # noqa: PT017
            assert "ulimit -u" in str(error)  # noqa: PT017
            it.reset()  # and it can be used
            seen = kind.seen(it)
        failed = left[0] <= 0
        assert sorted(seen) == ALL
        it.close()
    for thread in set(threading.enumerate()) - before:
        thread.join(30)
    assert not set(threading.enumerate()) - before


def test_no_batch_is_lost_when_a_thread_cannot_be_started(kind, fail_start):
    it = kind.make()
    left = fail_start(1)
    loop = iter(it)
    try:
        first = kind.labels(next(loop))
    except BackendError:
        first = []
    assert left[0] <= 0 or "NDArray" in kind.name
    assert sorted(first + kind.seen(it)) == ALL


# Threads that work for the iterator


def _augmented(folder, call):
    return mx.image.ImageIter(
        5, (3, 8, 8), imglist=[[n, f"{n}.png"] for n in ALL], path_root=folder, aug_list=[call]
    )


def _decoded(folder, call):
    class Calling(PortableDecoder):
        name = "calling"

        def decode_image(self, data):
            return call(super().decode_image(data))

    gpuio.register_decoder("calling", Calling)
    return mx.ImageRecordIter(folder / "a.rec", (3, 8, 8), 5, decoder="calling")


def _prefetched(folder, call):
    class Calling(mx.io.NDArrayIter):
        def next(self):
            call(None)
            return super().next()

    return mx.io.PrefetchingIter(Calling(np.arange(20), np.arange(20), 5))


@pytest.mark.parametrize("make", [_augmented, _decoded, _prefetched])
@pytest.mark.parametrize("use", ["close", "reset", "next"])
def test_a_thread_that_works_for_an_iterator_cannot_use_it(twenty, monkeypatch, make, use):
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    calls = []

    def call(image):
        if not calls:
            calls.append(use)
            getattr(it, use)()
        return None if image is None else image[:8, :8]

    it = make(twenty, call)
    with pytest.raises(RuntimeError, match="used by a thread that works for it"):
        list(it)
    assert calls
    it.reset()  # nothing was closed
    assert len(list(it)) == 4
    it.close()
    assert not our_threads()


# The lock


def test_a_lock_that_this_thread_holds_stays_held_in_a_child():
    lock = SharedLock()
    with lock:
        lock.renew()
        assert together(lambda: lock._lock.acquire(blocking=False)) == [False]
    assert together(lambda: lock._lock.acquire(blocking=False)) == [True]


def test_a_thread_that_waited_does_not_enter_a_closed_guard():
    guard, inside = Guard(), threading.Event()

    def enter():
        inside.set()
        with guard:
            return "entered"

    def close():
        with guard:
            inside.wait(60)
            guard.close(lambda: None, lambda: None)

    with guard:
        closing = threading.Thread(target=close)
        closing.start()
    found = together(enter)
    closing.join(60)
    assert isinstance(found[0], PipelineClosedError) or found == ["entered"]
    with pytest.raises(PipelineClosedError), guard:
        pass
