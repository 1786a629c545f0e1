"""The items of a batch, on several OS threads, in one call that holds no GIL.

A training loop keeps the GIL busy, and every hand-over costs the waiting thread up to the switch
interval of 5 ms. So compiled code is entered once a batch: the call below starts the threads,
they share the items through one atomic counter, and it returns when all are done. Starting a
thread costs some 20 us, a batch takes tens of milliseconds; no thread outlives the call.

Kernels that follow each other are run item by item, not kernel by kernel: what the first one
leaves in the cache is still there for the next. For that each worker has memory of its own, and
kernels find their places in it by adding its `base` to offsets in their tables.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, cached_property
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from gpuio.kernels.native import address, call, fetch_add, hold, load64, pointer

_ITEM = types.void(types.uint64, types.int64, types.int64, types.uint64)
_LINK = 2  # words a kernel takes in a chain: its address, and that of its words
_MONOTONIC_CLOCK = np.uint64(1)

JOB = np.dtype(
    [
        ("counter", np.uint64),  # address of the number of the next item
        ("count", np.int64),
        ("worker", np.int64),
        ("base", np.uint64),  # address of this worker's memory
        ("chain", np.uint64),  # address of the kernels and their words
        ("length", np.int64),
        ("clock", np.uint64),  # address of clock_gettime, or 0
        ("spent", np.uint64),  # address of this worker's nanoseconds by kernel
    ],
    align=True,
)


@njit(inline="always")
def arguments(words, size):
    """(size,) uint64: the words that a `Task` was called with."""
    return carray(pointer(words), size, np.uint64)


@njit(inline="always")
def _now(clock, time):
    """Nanoseconds, or 0 without a clock; `time` is room for a timespec."""
    if clock == 0:
        return np.int64(0)
    call(clock, (_MONOTONIC_CLOCK, address(time)))
    return time[0] * 1_000_000_000 + time[1]


@njit(nogil=True, error_model="numpy")
def _work(at):
    job = carray(pointer(at), 1, JOB)[0]
    spent = carray(pointer(job.spent), job.length, np.int64)
    time = np.zeros(2, np.int64)
    before = _now(job.clock, time)
    while True:
        item = fetch_add(job.counter, np.int64(1))
        if item >= job.count:
            break
        for k in range(job.length):
            link = job.chain + np.uint64(8 * _LINK * k)
            given = (load64(link + np.uint64(8)), np.uint64(item), np.uint64(job.worker), job.base)
            call(load64(link), given)
            after = _now(job.clock, time)
            spent[k] += after - before
            before = after
    hold(time)


def _worker(at):
    """What a thread runs: `at` is the address of a JOB."""
    _work(at)


@njit(nogil=True, cache=True)
def _fork_join(create, join, worker, jobs, stride, count):
    """Run `worker` on `count` rows of `stride` bytes from `jobs`, each on a POSIX thread.

    A single row is run in the calling thread. The number of rows run.
    """
    if count == 1:
        call(worker, (jobs,))
        return 1
    threads = np.empty(count, np.uint64)
    started = 0
    for k in range(count):
        handle, row = address(threads) + np.uint64(8 * k), jobs + np.uint64(stride * k)
        if call(create, (handle, np.uint64(0), worker, row)) != 0:
            break
        started += 1
    for k in range(started):
        call(join, (threads[k], np.uint64(0)))
    return started


class Task:
    """A kernel over the items of a batch: `task(count, threads, *words)` takes every item once.

    Args:
        body: `body(words, item, worker, base)`, a module-level function that numba compiles
            without the GIL: the address of its words, the numbers of the item and of the thread,
            and the address of the thread's memory (0 when there is none). It is compiled on
            first use and kept in numba's disk cache.
    """

    def __init__(self, body: Any) -> None:
        self.__doc__ = body.__doc__
        self.__name__ = body.__name__
        self._body = body

    @cached_property
    def address(self) -> int:
        """Of the compiled function."""
        return int(self._compiled.address)

    @cached_property
    def _compiled(self) -> Any:
        return cfunc(_ITEM, cache=True, error_model="numpy")(self._body)

    def __call__(self, count: int, threads: int, *words: int) -> None:
        """Run over items 0 to count - 1 on at most `threads` OS threads.

        Args:
            count: Number of items.
            threads: Workers to start; never more than there are items.
            words: 64-bit arguments: addresses, sizes, small integers.
        """
        run_chain([(self, words)], count, threads)


def run_chain(
    chain: Sequence[tuple[Task, Sequence[int]]],
    count: int,
    threads: int,
    base: int = 0,
    stride: int = 0,
) -> Any:
    """Run kernels one after the other on each of `count` items.

    Args:
        chain: Kernels with their words.
        count: Number of items.
        threads: Workers to start; never more than there are items.
        base: Address of the workers' memory, or 0.
        stride: Bytes of it for each worker.

    Returns:
        (kernels,) int64 nanoseconds that the workers spent in each, added up; 0 where there is no
        clock.
    """
    workers = max(1, min(threads, count))
    spent = np.zeros((workers, len(chain)), np.int64)
    if count == 0:
        return spent.sum(axis=0)
    counter = np.zeros(1, np.int64)
    given = [np.array([w % 2**64 for w in words], np.uint64) for _, words in chain]
    links = np.array(
        [(task.address, w.ctypes.data) for (task, _), w in zip(chain, given, strict=True)],
        np.uint64,
    )
    jobs = np.zeros(workers, JOB)
    jobs["counter"], jobs["count"] = counter.ctypes.data, count
    jobs["worker"] = np.arange(workers)
    if base:
        jobs["base"] = base + stride * np.arange(workers, dtype=np.uint64)
    jobs["chain"], jobs["length"] = links.ctypes.data, len(chain)
    jobs["spent"] = spent.ctypes.data + spent.strides[0] * np.arange(workers)
    at, size = jobs.ctypes.data, jobs.strides[0]
    worker = _compiled_worker()
    if os.name == "posix":
        create, join, jobs["clock"] = _posix()
        done = _fork_join(create, join, np.uint64(worker.address), np.uint64(at), size, workers)
        if done == 0:
            worker.ctypes(at)  # no thread to be had: do it here
    else:
        with ThreadPoolExecutor(workers) as pool:  # ctypes lets the GIL go
            list(pool.map(worker.ctypes, range(at, at + size * workers, size)))
    return spent.sum(axis=0)


@cache
def _compiled_worker() -> Any:
    return cfunc(types.void(types.uint64), cache=True, error_model="numpy")(_worker)


@cache
def _posix() -> tuple[np.uint64, np.uint64, np.uint64]:
    process = ctypes.CDLL(None)
    functions = (process.pthread_create, process.pthread_join, process.clock_gettime)
    create, join, clock = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions)
    return np.uint64(create), np.uint64(join), np.uint64(clock)
