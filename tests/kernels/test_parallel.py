"""Every item is taken once, by any number of threads."""

from __future__ import annotations

import threading
from functools import cached_property
from types import SimpleNamespace

import numpy as np
import numpy.testing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import carray, cfunc, types

from gpuio.kernels import parallel
from gpuio.kernels.native import fetch_add, pointer
from gpuio.kernels.parallel import Task, job_words, job_worker, next_item


class Uncached(Task):
    """A task that is compiled anew in every run, as its callees may have changed."""

    @cached_property
    def _compiled(self):
        return cfunc(types.void(types.voidptr))(self._body)


@Uncached
def count_items(job):
    """Count how often each item comes, and note the highest worker number."""
    words = job_words(job, 3)
    counts = carray(pointer(words[0]), words[1], np.int64)
    fetch_add(words[2], np.int64(1) << np.int64(8 * job_worker(job)))
    while True:
        i = next_item(job)
        if i < 0:
            break
        fetch_add(np.uint64(counts[i:].ctypes.data), np.int64(1))


def run(count, threads):
    """How often each item came, and how often each worker."""
    counts, workers = np.zeros(count + 1, np.int64), np.zeros(1, np.int64)
    count_items(count, threads, counts.ctypes.data, len(counts), workers.ctypes.data)
    assert counts[count] == 0, "an item beyond the last"
    return counts[:count], workers.view(np.uint8)


@given(count=st.integers(0, 300), threads=st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_every_item_comes_once(count, threads):
    counts, workers = run(count, threads)
    npt.assert_array_equal(counts, 1)
    started = min(count, threads)
    npt.assert_array_equal(workers, [1] * started + [0] * (8 - started))


def test_without_items_nothing_runs():
    _, workers = run(0, 4)
    assert not workers.any()


def test_where_no_thread_can_be_had_the_caller_does_the_work(monkeypatch):
    run(1, 1)  # the compiler itself uses threads
    monkeypatch.setattr(parallel, "_fork_join", lambda *_: 0)
    counts, workers = run(20, 3)
    npt.assert_array_equal(counts, 1)
    npt.assert_array_equal(workers[:2], [1, 0])


def test_without_posix_threads_python_threads_do_the_work(monkeypatch):
    run(1, 1)
    monkeypatch.setattr(parallel, "os", SimpleNamespace(name="nt"))
    counts, workers = run(20, 3)
    npt.assert_array_equal(counts, 1)
    npt.assert_array_equal(workers[:4], [1, 1, 1, 0])


def test_several_python_threads_may_run_tasks_at_once():
    results = []
    callers = [threading.Thread(target=lambda: results.append(run(500, 3))) for _ in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(results) == 4
    for counts, _ in results:
        npt.assert_array_equal(counts, 1)
