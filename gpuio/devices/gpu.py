"""A GPU as a device: tables and pictures in its memory, kernels queued on a stream of its own.

Two batches are in flight. Host steps, such as the decoder's, run in lanes (`lanes.py`), those of
the second batch beside those of the first; a batch's tables are made meanwhile. Its kernels are
queued when it is joined. A program without host steps is queued when it starts.

A batch has its buffers: pinned and device memory for its tables, and an arena with the memory of
its items. Three sets of buffers are used in turn, so that the host seldom waits for the device:
only before buffers are used again, until the device is done with them. An event on the stream is
not enough there: on Hopper GPUs the hardware JPEG decoder writes when it is called, whatever the
stream waits for.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import available_cores
from gpuio.devices.base import (
    Array,
    Device,
    Event,
    HostArray,
    KernelCall,
    Running,
    Stream,
    Work,
)
from gpuio.devices.buffers import ALIGNMENT, BatchBuffers
from gpuio.devices.driver import Driver, Mark
from gpuio.devices.lanes import LaneRun, Lanes
from gpuio.devices.launches import DeviceLaunch, Launches
from gpuio.devices.pool import Lease
from gpuio.devices.ring import Slot
from gpuio.kernels.parallel import Task

_IN_TURN = 3  # sets of buffers: two are at work, and one is filled, also while a batch is retried


class _Event:
    """Points in several streams' work."""

    def __init__(self, driver: Driver, own: Stream, events: Sequence[Mark]) -> None:
        self._driver, self._own, self.events = driver, own, events

    def wait(self) -> None:
        for event in self.events:
            self._driver.wait(self._own, event)

    def synchronize(self) -> None:
        for event in self.events:
            self._driver.synchronize(event)


class _Running:
    """A program at work: its host steps in a lane, if it has any, and then its kernels."""

    def __init__(self, work: _Work, count: int) -> None:
        self.starved: dict[int, int] = {}
        self.steps: LaneRun | None = None
        self.launches: list[DeviceLaunch] = []
        self._work = work
        self._spent = np.zeros(count, np.int64)

    def queue(self) -> None:
        """Wait for the host steps, and queue the kernels behind them."""
        try:
            if self.steps is not None:
                for number, spent in self.steps.join().items():
                    self._spent[number] = spent
            self._work.queue(self.launches)
        finally:
            self._work.finish()

    def join(self) -> npt.NDArray[np.int64]:
        if self.steps is not None:
            self.queue()
        return self._spent


class _Work(Work):
    """The work of a batch in its buffers."""

    def __init__(
        self,
        device: GpuDevice,
        driver: Driver,
        stream: Stream,
        lanes: Lanes,
        buffers: BatchBuffers,
    ) -> None:
        super().__init__()
        self._device, self._driver, self._stream, self._buffers = device, driver, stream, buffers
        self._lanes = lanes
        self._kept: list[object] = []

    def _upload(self, host: HostArray) -> int:
        return self._buffers.tables.put(host)

    def upload_all(self, hosts: Sequence[HostArray]) -> npt.NDArray[np.uint64]:
        return self._buffers.tables.put_all(hosts, self._device.threads)

    def keep(self, host: HostArray) -> int:
        self._kept.append(host)
        return int(host.ctypes.data)

    def _start(self, program: Sequence[KernelCall], nbytes: npt.NDArray[np.int64]) -> Running:
        sizes = -(-nbytes // ALIGNMENT) * ALIGNMENT
        arena = self._buffers.arena.reserve(int(sizes.sum()))
        start = self._driver.address(arena)
        bases = np.uint64(start) + (np.cumsum(sizes) - sizes).astype(np.uint64)
        numbered = list(enumerate(program))
        steps = [(n, call) for n, call in numbered if not isinstance(call.kernel, Task)]
        running = _Running(self, len(program))
        if steps:
            running.steps = self._lanes.start(steps, bases)
            self._buffers.at_work = True
        try:  # tables are made while the host steps run
            launches = Launches(self._buffers, bases, self._device.threads, self._colors)
            queued = [launches.of(call) for call in program if isinstance(call.kernel, Task)]
        except BaseException:
            running.join()
            raise
        running.launches = [launch for each in queued for launch in each]
        if not steps:
            running.queue()
        return running

    def queue(self, launches: Sequence[DeviceLaunch]) -> None:
        """Send the tables to the device, and queue its kernels."""
        self._buffers.tables.send(self._stream)
        for kernel, grid, args in launches:
            self._driver.launch(kernel, grid, args, self._stream)

    def finish(self) -> None:
        """Let the buffers be used again, after what is queued."""
        self._buffers.fence = self._device.record()
        self._buffers.at_work = False


class GpuDevice(Device):
    """Queues batches on a stream of its own.

    Args:
        driver: Driver of the device.
        threads: CPU threads for reading, headers and tables; all available cores when None.
    """

    most_items = 65535  # blocks along the third axis of a grid
    max_in_flight = 2

    def __init__(self, driver: Driver, threads: int | None = None) -> None:
        self.name, self.device_id = driver.name, driver.device_id
        self.threads = available_cores() if threads is None else threads
        self._driver = driver
        self._stream = driver.new_stream()
        self._lanes = Lanes(driver, self._stream, self.max_in_flight)
        self._buffers = [BatchBuffers(driver) for _ in range(_IN_TURN)]
        self._downloads = Slot(driver.empty_host)
        # Memory that is given back may be used by others at once.
        weakref.finalize(self, _finish, driver, self._stream).atexit = False

    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        return self._driver.empty_host(nbytes)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        return self._driver.empty(shape, dtype)

    def upload(self, host: HostArray) -> Array:
        with self.scope():
            array, pinned = self.empty(host.shape, host.dtype), self.empty_host(host.nbytes)
            pinned[:] = np.ascontiguousarray(host).view(np.uint8).reshape(-1)
            self._driver.copy(self.address(array), pinned.ctypes.data, host.nbytes, self._stream)
            self.record().synchronize()
        return array

    def download(self, array: Array) -> HostArray:
        pinned: npt.NDArray[np.uint8] = self._downloads.reserve(array.nbytes)[: array.nbytes]
        self._driver.copy(pinned.ctypes.data, self.address(array), array.nbytes, self._stream)
        self.record().synchronize()
        return pinned.view(array.dtype).reshape(array.shape)

    def address(self, array: Array) -> int:
        return self._driver.address(array)

    def wrap(self, memory: Array, owner: object) -> Array:
        return self._driver.wrap(memory, owner)

    def work(self) -> Work:
        buffers = next(each for each in self._buffers if not each.at_work)
        self._buffers.remove(buffers)  # so that the one comes first that was free for longest
        self._buffers.append(buffers)
        buffers.fence.synchronize()
        buffers.tables.clear()
        buffers.scratch.clear()
        return _Work(self, self._driver, self._stream, self._lanes, buffers)

    def gather_items(self, data: Array, places: npt.NDArray[np.int64], fill: int = 0) -> None:
        before = self.empty(data.shape, data.dtype)
        nbytes = data.nbytes // len(data)
        to, start = self.address(data), self.address(before)
        self._driver.copy(start, to, data.nbytes, self._stream)
        for place, source in enumerate(places.tolist()):
            if source < 0:
                self._driver.fill(to + place * nbytes, fill, nbytes, self._stream)
            elif source != place:
                at = start + source * nbytes
                self._driver.copy(to + place * nbytes, at, nbytes, self._stream)
        self.record().synchronize()  # `before` is given back now

    def record(self) -> Event:
        return _Event(self._driver, self._stream, [self._driver.record(self._stream)])

    def export(self, data: Array, ready: Event, lease: Lease) -> Array:
        assert isinstance(ready, _Event)
        return self._driver.export(data, ready.events[0], lease)

    def after(self, readers: Sequence[Stream]) -> Event:
        events = [self._driver.record(stream) for stream in readers]
        return _Event(self._driver, self._stream, events)

    def rest(self) -> None:
        self._lanes.rest()

    def scope(self) -> AbstractContextManager[None]:
        return self._driver.scope()


def _finish(driver: Driver, stream: Stream) -> None:
    driver.synchronize(driver.record(stream))
