"""Loops over the items of a batch, on several OS threads, in one call that holds no GIL.

A training loop keeps the GIL busy, and every hand-over costs the waiting thread up to the switch
interval of 5 ms. So a room enters compiled code once a batch: the call below starts the threads,
they share the items through one atomic counter, and it returns when all are done. Starting a
thread costs some 20 us, a batch takes tens of milliseconds; no thread outlives the call.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types

from gpuio.kernels.native import address_of, call, fetch_add, pointer

_HEADER = 3
"""Words before the arguments in a job: counter address, item count, worker number."""


@njit(inline="always")
def job_words(job, size):
    """(size,) uint64: the arguments that `Task` was called with."""
    return carray(pointer(address_of(job) + np.uint64(8 * _HEADER)), size, np.uint64)


@njit(inline="always")
def job_worker(job):
    """This worker's number, from 0."""
    return carray(job, _HEADER, np.int64)[2]


@njit(inline="always")
def next_item(job):
    """The number of an item that no other worker has, or -1 when all are taken."""
    head = carray(job, _HEADER, np.int64)
    item = fetch_add(np.uint64(head[0]), np.int64(1))
    return item if item < head[1] else np.int64(-1)


@njit(nogil=True, cache=True)
def _fork_join(create, join, work, jobs):
    """Run `work` on every row of `jobs`, each on a POSIX thread; the number started.

    A single row is run in the calling thread.
    """
    if len(jobs) == 1:
        call(work, (np.uint64(jobs.ctypes.data),))
        return 1
    threads = np.empty(len(jobs), np.uint64)
    started = 0
    for k in range(len(jobs)):
        handle = np.uint64(threads.ctypes.data) + np.uint64(8 * k)
        row = np.uint64(jobs.ctypes.data) + np.uint64(8 * k * jobs.shape[1])
        if call(create, (handle, np.uint64(0), work, row)) != 0:
            break
        started += 1
    for k in range(started):
        call(join, (threads[k], np.uint64(0)))
    return started


class Task:
    """A compiled loop: `task(count, threads, *words)` takes every item once.

    Args:
        body: `body(job)`, a module-level function that numba compiles without the GIL. It asks
            `next_item(job)` until that is -1, and finds its arguments in `job_words`. It is
            compiled on first use and kept in numba's disk cache.
    """

    def __init__(self, body: Any) -> None:
        self.__doc__ = body.__doc__
        self.__name__ = body.__name__
        self._body = body

    @cached_property
    def _compiled(self) -> Any:
        return cfunc(types.void(types.voidptr), cache=True, error_model="numpy")(self._body)

    def __call__(self, count: int, threads: int, *words: int) -> None:
        """Run over items 0 to count - 1 on at most `threads` OS threads.

        Args:
            count: Number of items.
            threads: Workers to start; never more than there are items.
            words: 64-bit arguments: addresses, sizes, small integers.
        """
        if count == 0:
            return
        workers = max(1, min(threads, count))
        counter = np.zeros(1, np.int64)
        jobs = np.empty((workers, _HEADER + len(words)), np.uint64)
        jobs[:, 0] = counter.ctypes.data
        jobs[:, 1] = count
        jobs[:, 2] = np.arange(workers)
        jobs[:, _HEADER:] = np.array([w % 2**64 for w in words], np.uint64)
        if os.name == "posix":
            create, join = _pthreads()
            if _fork_join(create, join, np.uint64(self._compiled.address), jobs) == 0:
                self._compiled.ctypes(jobs.ctypes.data)  # no thread to be had: do it here
        else:
            with ThreadPoolExecutor(workers) as pool:  # ctypes lets the GIL go
                rows = range(jobs.ctypes.data, jobs.ctypes.data + jobs.nbytes, jobs.strides[0])
                list(pool.map(self._compiled.ctypes, rows))


def _pthreads() -> tuple[np.uint64, np.uint64]:
    process = ctypes.CDLL(None)
    functions = (process.pthread_create, process.pthread_join)
    create, join = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions)
    return np.uint64(create), np.uint64(join)
