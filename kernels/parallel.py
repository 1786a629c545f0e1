"""The items of a batch, on several OS threads, in one call that holds no GIL.

A training loop keeps the GIL busy, and every hand-over costs the waiting thread up to the switch
interval of 5 ms. So compiled code is entered once a batch: the call below starts the threads,
they share the items through one atomic counter, and another call waits until all are done.
Starting a thread costs some 20 us, a batch takes tens of milliseconds.

Kernels that follow each other are run item by item, not kernel by kernel: what the first one
leaves in the cache is still there for the next. For that each worker has memory of its own, and
kernels find their places in it by adding its `base` to offsets in their tables.

Kernels allocate nothing, as they could not report that an allocation failed. What they need beside
source and result is small and on their stack (`native.stack`), or part of the worker's memory.
"""

from __future__ import annotations

import ctypes
import os
import time as clocks
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from gpuio.kernels.arrays import array_at
from gpuio.kernels.native import call, device_function, fetch_add, load64, stack
from gpuio.kernels.routine import Routine

_ITEM = types.void(types.uint64, types.int64, types.int64, types.uint64)
_CALL = 2  # words that a call takes in a program: the addresses of kernel and arguments
_WALL = np.uint64(getattr(clocks, "CLOCK_MONOTONIC", 1))
_CPU = np.uint64(getattr(clocks, "CLOCK_THREAD_CPUTIME_ID", 3))  # of the thread that asks

JOB = np.dtype(
    [
        ("counter", np.uint64),  # address of how many items have been taken
        ("count", np.int64),
        ("items", np.uint64),  # address of their numbers, int64; or 0: from 0 on
        ("worker", np.int64),
        ("base", np.uint64),  # address of this worker's memory
        ("program", np.uint64),  # address of the kernels and their arguments
        ("length", np.int64),
        ("clock", np.uint64),  # address of clock_gettime, or 0
        ("spent", np.uint64),  # address of this worker's nanoseconds by kernel
    ],
    align=True,
)


@device_function(types.int64(*[types.uint64] * 3))
def _now(clock, which, time):
    """Nanoseconds by a clock, or 0 where there is none; `time` is the address of a timespec."""
    if clock == 0:
        return np.int64(0)
    call(clock, (which, time))
    return np.int64(load64(time)) * 1_000_000_000 + np.int64(load64(time + np.uint64(8)))


def _work(at):
    """What a thread runs: `at` is the address of a JOB."""
    job = array_at(at, 1, JOB)[0]
    spent = array_at(job.spent, job.length, np.int64)
    time = stack(16)
    cpu = _now(job.clock, _CPU, time)
    begin = before = _now(job.clock, _WALL, time)
    while True:
        item = fetch_add(job.counter, np.int64(1))
        if item >= job.count:
            break
        if job.items != 0:
            item = np.int64(load64(job.items + np.uint64(8 * item)))
        for k in range(job.length):
            entry = job.program + np.uint64(8 * _CALL * k)
            args = (load64(entry + np.uint64(8)), np.uint64(item), np.uint64(job.worker), job.base)
            call(load64(entry), args)
            after = _now(job.clock, _WALL, time)
            spent[k] += after - before
            before = after
    # Asking for the CPU's time takes longer, so that is done once: without the time in which the
    # thread had to wait for a core, as happens where two batches are at work.
    cpu = _now(job.clock, _CPU, time) - cpu
    if cpu < before - begin:
        for k in range(job.length):
            spent[k] = np.int64(spent[k] * (cpu / (before - begin)))


class Task(Routine):
    """A kernel over the items of a batch: `task(count, threads, *args)` takes every item once.

    Args:
        body: `body(args, item, worker, base)`, a module-level function that Numba compiles without
            the GIL. It gets the address of its arguments, the numbers of item and thread, and the
            address of the thread's memory (0 when there is none).
        cached: Whether the code is kept on disk.
    """

    def __init__(self, body: Any, *, cached: bool = True) -> None:
        super().__init__(body, _ITEM, cached=cached)

    def prepare(self, args: Sequence[int], count: int) -> Sequence[int]:
        """Compile what `count` items need besides; the arguments to call the kernel with."""
        return args

    def __call__(self, count: int, threads: int, *args: int) -> None:  # type: ignore[override]
        """Run over items 0 to count - 1 on at most `threads` OS threads.

        Args:
            count: Number of items.
            threads: Workers to start; never more than there are items.
            args: 64-bit values: addresses, sizes, small integers.
        """
        run_program([(self, args)], count, threads)


def run_program(
    program: Sequence[tuple[Task, Sequence[int]]],
    count: int,
    threads: int,
    base: int = 0,
    stride: int = 0,
) -> Any:
    """Run kernels one after the other on each of `count` items: see `Launch`.

    Returns:
        (kernels,) int64 nanoseconds of CPU time that the workers spent in each, added up.
    """
    return Launch(program, count, threads, base, stride, here=min(threads, count) <= 1).join()


class Launch:
    """Kernels that are being run, one after the other on each of some items.

    Args:
        program: Kernels with their arguments.
        items: How many, numbered from 0; or (N,) int64, their numbers.
        threads: Workers to start; never more than there are items.
        base: Address of the workers' memory, or 0.
        stride: Bytes of it for each worker.
        first: Number of the first worker.
        held: What owns the memory that the kernels use, kept until they are done.
        here: Use no thread of its own; all is done in `join`, as also where no thread can be had.
    """

    def __init__(
        self,
        program: Sequence[tuple[Task, Sequence[int]]],
        items: int | npt.NDArray[np.int64],
        threads: int,
        base: int = 0,
        stride: int = 0,
        first: int = 0,
        held: Sequence[Any] = (),
        *,
        here: bool = False,
    ) -> None:
        self._started = 0  # threads that `join` has still to wait for
        self._held = held
        self._items = None if isinstance(items, int) else np.ascontiguousarray(items, np.int64)
        count = items if isinstance(items, int) else len(items)
        workers = max(1, min(threads, count))
        self._spent = np.zeros((workers, len(program)), np.int64)
        self._counter = np.zeros(1, np.int64)
        length = count if self._items is None else int(self._items.max(initial=-1)) + 1
        self._args = [
            np.array([a % 2**64 for a in task.prepare(args, length)], np.uint64)
            for task, args in program
        ]
        calls = zip(program, self._args, strict=True)
        self._calls = np.array([(t.address, a.ctypes.data) for (t, _), a in calls], np.uint64)
        jobs = self._jobs = np.zeros(workers, JOB)
        numbers = np.arange(workers, dtype=np.uint64)
        jobs["counter"], jobs["count"] = self._counter.ctypes.data, count
        jobs["items"] = 0 if self._items is None else self._items.ctypes.data
        jobs["worker"] = first + numbers
        jobs["base"] = base + stride * numbers if base else 0
        jobs["program"], jobs["length"] = self._calls.ctypes.data, len(program)
        jobs["spent"] = self._spent.ctypes.data + self._spent.strides[0] * numbers
        self._pool: ThreadPoolExecutor | None = None
        self._threads = np.zeros(workers, np.uint64)
        self._start(0 if here else workers)

    def _start(self, workers: int) -> None:
        """Start that many threads, or fewer where no more can be had."""
        jobs = self._jobs
        if os.name == "posix":
            create, _, jobs["clock"] = _posix()
            rows, handles = (jobs.ctypes.data, jobs.strides[0]), self._threads.ctypes.data
            self._started = _starter(create, _thread.address, *rows, handles, workers)
        elif workers:
            # Plain integers, as ctypes wants.
            at, size = int(jobs.ctypes.data), int(jobs.strides[0])
            self._pool = ThreadPoolExecutor(workers)  # ctypes lets the GIL go
            self._futures = [self._pool.submit(_thread, at + size * k) for k in range(workers)]
            self._started = workers

    def __del__(self) -> None:
        if self._started:  # the threads still use what is held here
            self.join()

    def join(self) -> Any:
        """Wait until all is done; to be called once.

        Returns:
            (kernels,) int64 nanoseconds of CPU time that the workers spent in each, added up; 0
            where there is no clock.
        """
        started, self._started = self._started, 0
        if self._pool is not None:
            for future in self._futures:
                future.result()
            self._pool.shutdown()
        elif os.name == "posix":
            threads = self._threads.ctypes.data, started
            _joiner(_posix()[1], *threads, _thread.address, self._jobs.ctypes.data)
        else:
            _thread(self._jobs.ctypes.data)
        return self._spent.sum(axis=0)


@cache
def _posix() -> tuple[int, int, int]:
    process = ctypes.CDLL(None)
    functions = (process.pthread_create, process.pthread_join, process.clock_gettime)
    create, join, clock = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in functions)
    return create, join, clock


def _start_threads(create, worker, jobs, stride, threads, count):
    """Run `worker` on rows of `stride` bytes from `jobs`, each on a POSIX thread.

    Args:
        create: Address of pthread_create.
        worker: Address of what each thread runs.
        jobs: Address of the rows.
        stride: Bytes of a row.
        threads: Address of `count` uint64, overwritten with the threads.
        count: Number of rows.

    Returns:
        The number of threads started: fewer where no more can be had.
    """
    for k in range(count):
        handle, row = threads + np.uint64(8 * k), jobs + np.uint64(stride * k)
        if call(create, (handle, np.uint64(0), worker, row)) != 0:
            return k
    return count


def _join(join, threads, count, worker, jobs):
    """Wait for `count` threads; where none could be started, do their work here."""
    for k in range(count):
        call(join, (load64(threads + np.uint64(8 * k)), np.uint64(0)))
    if count == 0:
        call(worker, (jobs,))


_starter = Routine(
    _start_threads,
    types.int64(*[types.uint64] * 3, types.int64, types.uint64, types.int64),
    nogil=False,  # waiting for the GIL would take longer
)
_joiner = Routine(
    _join, types.void(types.uint64, types.uint64, types.int64, types.uint64, types.uint64)
)
_thread = Routine(_work, types.void(types.uint64))
