"""Lanes: where the host steps of a program run, beside those of the program before.

A decoder's call for a batch takes the host for nearly as long as the device. So it has a thread of
its own, which makes the next batch's tables wait for nothing, and a stream of its own, which makes
the kernels of the batch before wait for nothing. The device's own stream waits for a lane's only
where a batch's kernels begin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import WorkerPool
from gpuio.devices.base import KernelCall, Stream
from gpuio.devices.driver import Driver, Mark
from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.parallel import Task

_THREADS = "gpuio-lane"


class Lane:
    """A stream for host steps, of one program at a time; a step gets it to queue work of its own.

    Args:
        driver: Driver of the device.
        number: Its number among the device's lanes, from 0.

    Attributes:
        number: As given.
        handle: The stream's handle, as libraries take it.
    """

    def __init__(self, driver: Driver, number: int) -> None:
        self._driver, self.number = driver, number
        self._stream = driver.new_stream()
        self.handle = driver.handle(self._stream)
        self._branches: list[Lane] = []
        self._pool: WorkerPool | None = None

    def launch(
        self, kernel: DeviceKernel, grid: tuple[int, int, int], args: tuple[int, ...]
    ) -> None:
        """Queue a kernel."""
        self._driver.launch(kernel, grid, args, self._stream)

    def copy(self, to: int, start: int, nbytes: int) -> None:
        """Queue a copy of bytes from address `start`, of the device or of pinned memory."""
        self._driver.copy(to, start, nbytes, self._stream)

    def host_writes(self, start: int) -> None:
        """Note that the host now writes to pinned memory."""
        self._driver.host_writes(start)

    def library_writes(self, start: int) -> None:
        """Note that a library that is given the stream now writes to memory.

        It may write when it is called, whatever the stream waits for, and until its work on the
        stream is done.
        """
        self._driver.host_writes(start)
        self._driver.stream_writes(start, self._stream)

    def record(self) -> Mark:
        """An event after all work that was queued so far, for `synchronize`."""
        return self._driver.record(self._stream)

    def synchronize(self, event: Mark | None = None) -> None:
        """Make the calling thread wait for an event, or for all work that was queued so far."""
        self._driver.synchronize(self.record() if event is None else event)

    def together(self, calls: Sequence[Callable[[Lane], None]]) -> None:
        """Make calls at the same time, each in a thread and with a lane of its own.

        This lane comes after all that they have queued, also those that have raised.

        Args:
            calls: They get their lanes.

        Raises:
            Exception: What one of them has raised, after all have ended.
        """
        if len(self._branches) < len(calls):
            self.rest()  # the threads are as many as the branches
        while len(self._branches) < len(calls):
            self._branches.append(Lane(self._driver, self.number))
        if self._pool is None:
            self._pool = WorkerPool(len(self._branches), _THREADS)
        known, begun = self._driver.hand_over(), self.record()
        futures: list[Future[None]] = []
        ends = [StepsDone() for _ in calls]
        try:
            for branch, call, done in zip(self._branches, calls, ends, strict=False):
                futures.append(self._pool.submit(branch._branch, call, begun, known, done))
        finally:
            errors = [future.exception() for future in futures]
            for done in ends:
                done.come_before(self._driver, self._stream)
        for error in errors:
            if error is not None:
                raise error

    def _branch(
        self, call: Callable[[Lane], None], begun: Mark, known: Mark, done: StepsDone
    ) -> None:
        """Make a call after an event; `done` gets the end of its work."""
        with self._driver.lane_scope(self._stream, known):
            self._driver.wait(self._stream, begun)
            try:
                call(self)
            finally:
                done.event, done.known = self.record(), self._driver.hand_over()

    def rest(self) -> None:
        """Join the threads of `together`, until there is work again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    def run(
        self,
        steps: Sequence[tuple[int, KernelCall]],
        bases: npt.NDArray[np.uint64],
        known: Mark,
        done: StepsDone,
    ) -> None:
        """Run host steps in the calling thread.

        Args:
            steps: Their numbers in their program, and the steps.
            bases: (N,) addresses of the items' memory, which no other work still uses.
            known: From `Driver.hand_over` in the thread that has given the steps.
            done: Gets times, the end of the work, and what this thread knows then.
        """
        with self._driver.lane_scope(self._stream, known):
            try:
                for number, call in steps:
                    assert not isinstance(call.kernel, Task)
                    begin = time.perf_counter_ns()
                    if len(bases):
                        self.library_writes(int(bases[0]))
                    call.kernel(call.table, bases, self)
                    done.spent[number] = time.perf_counter_ns() - begin
            finally:
                done.event, done.known = self.record(), self._driver.hand_over()


class StepsDone:
    """What host steps leave behind.

    Attributes:
        spent: By number of the step in its program, nanoseconds that it took.
        event: The end of their work on the lane's stream.
        known: What the lane's thread has handed over.
    """

    def __init__(self) -> None:
        self.spent: dict[int, int] = {}
        self.event: Mark = None
        self.known: Mark = None

    def come_before(self, driver: Driver, stream: Stream) -> None:
        """Order a stream behind the work, and tell the calling thread what the lane's knows."""
        driver.take_over(self.known)
        if self.event is not None:  # the first step has begun
            driver.wait(stream, self.event)


class LaneRun:
    """Host steps that run in a lane."""

    def __init__(self, lanes: Lanes, lane: Lane, future: Future[None], done: StepsDone) -> None:
        self._lanes, self._lane, self._future, self._done = lanes, lane, future, done

    def join(self) -> dict[int, int]:
        """Wait, once, until the host has no more work, and order the device's stream behind it.

        Returns:
            By number of the step in its program, nanoseconds that it took.

        Raises:
            Exception: What a step has raised, after its lane is free again.
        """
        error = self._future.exception()
        self._lanes.take_back(self._lane, self._done)
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback holds this frame
        return self._done.spent


class Lanes:
    """The lanes of a device, and their threads, which start with the first step.

    Args:
        driver: Driver of the device.
        stream: The device's own stream.
        count: Number of lanes.
    """

    def __init__(self, driver: Driver, stream: object, count: int) -> None:
        self._driver, self._stream, self._count = driver, stream, count
        self._free = [Lane(driver, number) for number in range(count)]
        self._pool: WorkerPool | None = None

    def start(
        self, steps: Sequence[tuple[int, KernelCall]], bases: npt.NDArray[np.uint64]
    ) -> LaneRun:
        """Run host steps, one after the other, in a lane that is free.

        Args:
            steps: Their numbers in their program, and the steps.
            bases: (N,) addresses of the items' memory, which no other work still uses.

        Raises:
            BackendError: No thread can be started; nothing was.
        """
        if self._pool is None:
            self._pool = WorkerPool(self._count, _THREADS)
        lane, done = self._free[-1], StepsDone()
        future = self._pool.submit(lane.run, steps, bases, self._driver.hand_over(), done)
        self._free.pop()
        return LaneRun(self, lane, future, done)

    def take_back(self, lane: Lane, done: StepsDone) -> None:
        """Make the device's stream wait for a lane's work, and the lane free for other steps."""
        self._free.append(lane)
        done.come_before(self._driver, self._stream)

    def rest(self) -> None:
        """Join all threads, until there is work again."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()
        for lane in self._free:
            lane.rest()
