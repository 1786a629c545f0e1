"""Every item passes through every kernel once, by any number of threads."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpuio.kernels import parallel
from gpuio.kernels.arrays import arguments, array_at
from gpuio.kernels.native import fetch_add, load64, store64
from gpuio.kernels.parallel import Launch, Task, run_program

uncached = partial(Task, cached=False)  # as its callees may have changed


@uncached
def count_items(args, item, worker, base):
    """Count how often each item comes, and note that the worker was there."""
    given = arguments(args, 2)
    fetch_add(given[0] + np.uint64(8 * item), np.int64(1))
    workers = array_at(given[1], worker + 1, np.uint8)
    workers[worker] = 1


@uncached
def leave(args, item, worker, base):
    """Leave the item's number in the worker's memory."""
    store64(base + arguments(args, 1)[0], np.uint64(item))


@uncached
def collect(args, item, worker, base):
    """Copy what the kernel before left there."""
    given = arguments(args, 2)
    store64(given[1] + np.uint64(8 * item), load64(base + given[0]))


@uncached
def spin(args, item, worker, base):
    """Add up some numbers, in some milliseconds."""
    total = np.int64(0)
    for k in range(4_000_000):
        total += np.int64(k) ^ total
    fetch_add(arguments(args, 1)[0], total)


def run(count, threads):
    """How often each item came, and which workers were there."""
    counts, workers = np.zeros(count + 1, np.int64), np.zeros(16, np.uint8)
    count_items(count, threads, counts.ctypes.data, workers.ctypes.data)
    assert counts[count] == 0, "an item beyond the last"
    return counts[:count], workers


@given(count=st.integers(0, 300), threads=st.integers(1, 8))
@settings(max_examples=50, deadline=None)
def test_every_item_comes_once(count, threads):
    counts, workers = run(count, threads)
    npt.assert_array_equal(counts, 1)
    assert not workers[min(count, threads) :].any()


def test_without_items_nothing_runs():
    _, workers = run(0, 4)
    assert not workers.any()


@given(count=st.integers(1, 100), threads=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_memory_of_a_thread_keeps_its_bytes_from_one_kernel_to_the_next(count, threads):
    stride = 64
    memory = np.full((threads + 2) * stride, 0xEE, np.uint8)
    numbers = np.zeros(count, np.int64)
    program = [(leave, (8,)), (collect, (8, numbers.ctypes.data))]
    spent = run_program(program, count, threads, memory[stride:].ctypes.data, stride)
    npt.assert_array_equal(numbers, np.arange(count))
    assert spent.shape == (2,)
    assert (spent >= 0).all()
    table = memory.reshape(-1, stride)
    assert (table[:, :8] == 0xEE).all()
    assert (table[:, 16:] == 0xEE).all()
    assert (table[[0, -1]] == 0xEE).all()


def test_where_no_thread_can_be_had_the_caller_does_the_work(monkeypatch):
    run(1, 1)  # the compiler itself uses threads
    monkeypatch.setattr(parallel, "_starter", lambda *_: 0)
    counts, workers = run(20, 3)
    npt.assert_array_equal(counts, 1)
    npt.assert_array_equal(workers[:3], [1, 0, 0])


def test_without_posix_threads_python_threads_do_the_work(monkeypatch):
    run(1, 1)
    monkeypatch.setattr(parallel, "os", SimpleNamespace(name="nt"))
    counts, workers = run(20, 3)
    npt.assert_array_equal(counts, 1)
    assert not workers[3:].any()


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


def test_two_launches_may_run_at_once_each_with_workers_of_its_own():
    counts, workers = np.zeros((2, 51), np.int64), np.zeros((2, 4), np.uint8)
    programs = [[(count_items, (counts[k].ctypes.data, workers[k].ctypes.data))] for k in range(2)]
    launches = [Launch(program, 50, 2, first=2 * k) for k, program in enumerate(programs)]
    for launch in reversed(launches):
        launch.join()
    npt.assert_array_equal(counts[:, :50], 1)
    assert not workers[0, 2:].any()
    assert not workers[1, :2].any()


def test_a_launch_that_nobody_waits_for_keeps_what_it_uses_until_it_is_done():
    counts, workers = np.zeros(51, np.int64), np.zeros(4, np.uint8)
    program = [(count_items, (counts.ctypes.data, workers.ctypes.data))]
    Launch(program, 50, 2, held=[counts, workers])
    npt.assert_array_equal(counts[:50], 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs sched_setaffinity")
def test_waiting_for_a_core_is_no_time_spent():
    total, cores = np.zeros(1, np.int64), os.sched_getaffinity(0)
    args = (total.ctypes.data,)
    run_program([(spin, args)], 1, 1)
    os.sched_setaffinity(0, {min(cores)})
    try:
        begin = time.perf_counter()
        spent = run_program([(spin, args), (spin, args)], 16, 8)
        wall = time.perf_counter() - begin
    finally:
        os.sched_setaffinity(0, cores)
    assert 0 < spent.sum() / 1e9 < 1.1 * wall
