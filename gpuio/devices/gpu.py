"""A GPU as a device: tables and pictures in its memory, work queued on a stream of its own.

`Driver` is the thin part that CUDA does: `cuda.py` has the real one, and `simulated.py` one that
runs the same kernels on the CPU and fails where an order is missing.

A batch has its buffers: pinned and device memory for its tables, and an arena with the memory of
its items. Three sets of buffers are used in turn, so that the host seldom waits for the device:
only before buffers are used again, until the device is done with them. An event on the stream is
not enough there: on Hopper GPUs the hardware JPEG decoder writes when it is called, whatever the
stream waits for.
"""

from __future__ import annotations

import time
import weakref
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import available_cores
from gpuio.devices.base import (
    DONE,
    Array,
    Device,
    Event,
    HostArray,
    KernelCall,
    Running,
    Stream,
    Work,
)
from gpuio.devices.pool import Lease
from gpuio.devices.ring import Slot
from gpuio.kernels import device as kernels
from gpuio.kernels.parallel import Task, run_program
from gpuio.kernels.pixels import pixel_function
from gpuio.kernels.resample import finish, resample
from gpuio.kernels.steps import FIRST_PIXEL_STEP, PIXEL_STEPS, StepKind
from gpuio.kernels.tables import tabulate, tap_bytes

_IN_TURN = 3  # sets of buffers: one set is filled, one is at work, one is free already
_ALIGNMENT = 256  # of memory for an item or a table, as of CUDA's own allocations
_CHUNK = 1 << 20

DeviceLaunch = tuple[kernels.DeviceKernel, tuple[int, int, int], tuple[int, ...]]
"""A kernel, its grid, its arguments."""

Mark: TypeAlias = Any  # type: ignore[explicit-any]
"""A driver's own event: a point in a stream's work."""


class Driver(ABC):
    """The operations of CUDA that a device uses. Streams and events are the driver's own objects.

    Attributes:
        name: Name of the device.
        device_id: Number of the device; None if its memory is the host's.
    """

    name: str
    device_id: int | None

    @abstractmethod
    def new_stream(self) -> Stream:
        """A stream that does not wait for the default stream."""

    @abstractmethod
    def handle(self, stream: Stream) -> int:
        """The CUDA handle of a stream."""

    @abstractmethod
    def record(self, stream: Stream) -> Mark:
        """An event after all work that was queued on `stream` so far."""

    @abstractmethod
    def wait(self, stream: Stream, event: Mark) -> None:
        """Make work that is queued on `stream` from now on wait for `event`."""

    @abstractmethod
    def synchronize(self, event: Mark) -> None:
        """Make the calling thread wait for `event`, without the GIL."""

    @abstractmethod
    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Pinned host memory."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Device memory."""

    @abstractmethod
    def empty_alone(self, nbytes: int) -> Array:
        """Device memory, uint8, that no work queued on any stream still uses.

        Memory from a pool may have been given back while work on it was still queued, which is safe
        only for users that keep to streams.
        """

    @abstractmethod
    def address(self, array: Array) -> int:
        """The address of device memory."""

    @abstractmethod
    def wrap(self, memory: Array, owner: object) -> Array:
        """An array over `memory` that keeps `owner` alive, as do all views of it."""

    @abstractmethod
    def copy(self, to: int, start: int, nbytes: int, stream: Stream) -> None:
        """Copy bytes from address `start`, of the device or of pinned memory."""

    @abstractmethod
    def fill(self, start: int, value: int, nbytes: int, stream: Stream) -> None:
        """Set bytes of device memory to `value`."""

    @abstractmethod
    def launch(
        self,
        kernel: kernels.DeviceKernel,
        grid: tuple[int, int, int],
        args: tuple[int, ...],
        stream: Stream,
    ) -> None:
        """Queue a kernel."""

    @abstractmethod
    def host_writes(self, start: int) -> None:
        """Note that the host, or a library that does not keep to streams, now writes to memory."""

    @abstractmethod
    def export(self, data: Array, ready: Mark, lease: Lease) -> Array:
        """`data` for the consumer: the streams that it reads it on wait for `ready`.

        Streams that are seen to read it are noted in the lease.
        """

    @abstractmethod
    def scope(self, stream: Stream) -> AbstractContextManager[None]:
        """Make the device, and `stream`, current in the calling thread."""


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


class _Tables:
    """The tables of a batch, at the same offsets in pinned memory and in device memory."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._chunks: list[tuple[npt.NDArray[np.uint8], Array]] = []
        self._used: list[int] = []
        self.clear()

    def clear(self) -> None:
        """Remove all tables, and large chunks that were not used; no copy may be under way."""
        used = zip(self._chunks, self._used, strict=True)
        self._chunks = [chunk for chunk, used in used if used or len(chunk[0]) == _CHUNK]
        self._used = [0] * len(self._chunks)
        self._at = 0

    def reserve(self, nbytes: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Pinned memory, and the address at which the device will find its content."""
        size = -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        while self._at < len(self._chunks):
            pinned, memory = self._chunks[self._at]
            begin = self._used[self._at]
            if begin + size <= len(pinned):
                self._used[self._at] += size
                self._driver.host_writes(pinned.ctypes.data)
                return pinned[begin : begin + nbytes], self._driver.address(memory) + begin
            self._at += 1
        total = max(_CHUNK, 2 * size)
        pinned = self._driver.empty_host(total)
        self._chunks.append((pinned, self._driver.empty((total,), np.uint8)))
        self._used.append(0)
        return self.reserve(nbytes)

    def put(self, host: HostArray) -> int:
        """The address at which the device will find a copy of `host`."""
        pinned, address = self.reserve(host.nbytes)
        pinned[:] = np.ascontiguousarray(host).view(np.uint8).reshape(-1)
        return address

    def send(self, stream: Stream) -> None:
        """Queue the copies to the device, one for each chunk."""
        for (pinned, memory), used in zip(self._chunks, self._used, strict=True):
            if used:
                to, start = self._driver.address(memory), pinned.ctypes.data
                self._driver.copy(to, start, used, stream)


class BatchBuffers:
    """The memory of one batch on the device.

    Attributes:
        tables: Tables of its kernels.
        arena: Memory of its items.
        fence: The last work that uses the memory.
    """

    def __init__(self, driver: Driver) -> None:
        self.tables = _Tables(driver)
        self.arena = Slot(driver.empty_alone)
        self.fence: Event = DONE


class _Queued:
    """Kernels that are queued on the device; the host has no more work for them."""

    def __init__(self, spent: npt.NDArray[np.int64]) -> None:
        self.starved: dict[int, int] = {}
        self._spent = spent

    def join(self) -> npt.NDArray[np.int64]:
        return self._spent


class _Work(Work):
    """The work of a batch in its buffers."""

    def __init__(
        self, device: GpuDevice, driver: Driver, stream: Stream, buffers: BatchBuffers
    ) -> None:
        super().__init__()
        self._device, self._driver, self._stream, self._buffers = device, driver, stream, buffers
        self._kept: list[object] = []

    def _upload(self, host: HostArray) -> int:
        return self._buffers.tables.put(host)

    def keep(self, host: HostArray) -> int:
        self._kept.append(host)
        return int(host.ctypes.data)

    def _start(self, program: Sequence[KernelCall], nbytes: npt.NDArray[np.int64]) -> Running:
        sizes = -(-nbytes // _ALIGNMENT) * _ALIGNMENT
        arena = self._buffers.arena.reserve(int(sizes.sum()))
        start = self._driver.address(arena)
        bases = np.uint64(start) + (np.cumsum(sizes) - sizes).astype(np.uint64)
        launches: list[DeviceLaunch] = []
        for call in program:
            if isinstance(call.kernel, Task):
                launches += self._launches(call, bases)
        spent = np.zeros(len(program), np.int64)
        try:
            self._buffers.tables.send(self._stream)
            for number, call in enumerate(program):
                if not isinstance(call.kernel, Task):
                    self._driver.host_writes(start)
                    begin = time.perf_counter_ns()
                    call.kernel(call.table, bases, self._driver.handle(self._stream))
                    spent[number] = time.perf_counter_ns() - begin
            for kernel, grid, args in launches:
                self._driver.launch(kernel, grid, args, self._stream)
        finally:
            self._buffers.fence = self._device.record()
        return _Queued(spent)

    def _launches(self, call: KernelCall, bases: npt.NDArray[np.uint64]) -> list[DeviceLaunch]:
        """What the device runs for a kernel of the CPU: one launch, or more.

        FINISH makes pixels of gpuio's own kinds and changes no colours: each thread has one pixel,
        and contrast needs the mean of all of them. So images with colours, and those of the user's
        kinds, are put into their scratch memory first.
        """
        table = call.table.copy()
        table["src"] += np.where(table["src_in_scratch"] != 0, bases, np.uint64(0))
        channels, *rest = call.args
        if call.kernel is resample:
            table["dst"] += bases
            return self._sample(table, channels)
        assert call.kernel is finish
        launches: list[DeviceLaunch] = []
        apart = (table["color"] != 0) | (table["kind"] >= FIRST_PIXEL_STEP)
        apart &= table["kind"] != StepKind.SKIP.value
        if apart.any():
            pitch = table["cols"].astype(np.int64) * channels
            painted = table.copy()
            painted["kind"][~apart] = StepKind.SKIP
            painted["dst"], painted["dst_pitch"] = table["scratch"] + bases, pitch
            launches += self._sample(painted, channels)
            skipped = table["y"] * pitch + table["x"].astype(np.int64) * channels
            origin = painted["dst"] - skipped.astype(np.uint64)
            table["src"][apart], table["src_pitch"][apart] = origin[apart], pitch[apart]
            table["kind"][apart] = StepKind.COPY
        address = self._place(table, channels)
        args = (address, channels, *map(int, rest))
        return [*launches, (kernels.FINISH, kernels.grid(kernels.FINISH, table), args)]

    def _sample(self, table: npt.NDArray[np.void], channels: int) -> list[DeviceLaunch]:
        args = (self._place(table, channels), channels)
        grid = kernels.grid(kernels.SAMPLE, table)
        launches: list[DeviceLaunch] = [(kernels.SAMPLE, grid, args)]
        own = table["kind"][table["kind"] >= FIRST_PIXEL_STEP]
        launches += [(_own_kernel(kind), grid, args) for kind in {*own.tolist()}]
        if ((table["color"] != 0) & (table["kind"] != StepKind.SKIP.value)).any():
            launches.append((kernels.COLOR, kernels.grid(kernels.COLOR, table), args))
        return launches

    def _place(self, table: npt.NDArray[np.void], channels: int) -> int:
        """Where the device finds `table`, and from there what its rows read of their sources."""
        sizes = tap_bytes(table, channels)
        pinned, address = self._buffers.tables.reserve(int(sizes.sum()))
        table["taps"] = np.uint64(address) + (np.cumsum(sizes) - sizes).astype(np.uint64)
        args = (table.ctypes.data, channels, pinned.ctypes.data - address)
        run_program([(tabulate, args)], len(table), self._device.threads)
        return self._buffers.tables.put(table)


@cache
def _own_kernel(kind: int) -> kernels.DeviceKernel:
    """The kernel of a kind of `PIXEL_STEPS`.

    Raises:
        ProgramError: Numba cannot compile the function of the step.
    """
    pixel_function(kind)  # its errors name the step
    own = kernels.sample_own(kind, PIXEL_STEPS[kind - FIRST_PIXEL_STEP].pixel)
    assert isinstance(own, kernels.DeviceKernel)
    return own


class GpuDevice(Device):
    """Queues batches on a stream of its own.

    Args:
        driver: Driver of the device.
        threads: CPU threads for reading, headers and tables; all available cores when None.
    """

    most_items = 65535  # blocks along the third axis of a grid

    def __init__(self, driver: Driver, threads: int | None = None) -> None:
        self.name, self.device_id = driver.name, driver.device_id
        self.threads = available_cores() if threads is None else threads
        self._driver = driver
        self._stream = driver.new_stream()
        self._buffers = deque(BatchBuffers(driver) for _ in range(_IN_TURN))
        # Memory that is given back may be used by others at once.
        weakref.finalize(self, _finish, driver, self._stream).atexit = False

    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        return self._driver.empty_host(nbytes)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        return self._driver.empty(shape, dtype)

    def upload(self, host: HostArray) -> Array:
        with self.scope():  # memory comes from a pool, in order with the stream that is current
            array, pinned = self.empty(host.shape, host.dtype), self.empty_host(host.nbytes)
            pinned[:] = np.ascontiguousarray(host).view(np.uint8).reshape(-1)
            self._driver.copy(self.address(array), pinned.ctypes.data, host.nbytes, self._stream)
            self.record().synchronize()
        return array

    def address(self, array: Array) -> int:
        return self._driver.address(array)

    def wrap(self, memory: Array, owner: object) -> Array:
        return self._driver.wrap(memory, owner)

    def work(self) -> Work:
        buffers = self._buffers[0]
        self._buffers.rotate(-1)
        buffers.fence.synchronize()
        buffers.tables.clear()
        return _Work(self, self._driver, self._stream, buffers)

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

    def record(self) -> Event:
        return _Event(self._driver, self._stream, [self._driver.record(self._stream)])

    def export(self, data: Array, ready: Event, lease: Lease) -> Array:
        assert isinstance(ready, _Event)
        return self._driver.export(data, ready.events[0], lease)

    def after(self, readers: Sequence[Stream]) -> Event:
        events = [self._driver.record(stream) for stream in readers]
        return _Event(self._driver, self._stream, events)

    def scope(self) -> AbstractContextManager[None]:
        return self._driver.scope(self._stream)


def _finish(driver: Driver, stream: Stream) -> None:
    driver.synchronize(driver.record(stream))
