"""A simulated GPU: its kernels run on the CPU, and races that CUDA would ignore are errors.

It is for tests without a GPU. Memory is NumPy's, each allocation with guard bytes around it; a
kernel that reads or writes elsewhere fails. Work runs at once, but streams and events record the
order that a real device would have been given: each stream has a vector clock (the steps of every
stream and of the host that are known to have happened), events carry clocks from one stream to
another, and a step fails if it reads memory that is not known to be written, or writes memory that
is not known to be read.
"""

from __future__ import annotations

import bisect
import ctypes
import itertools
import os
import threading
import weakref
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core.guard import SharedLock
from gpuio.devices.base import Array, HostArray
from gpuio.devices.cpu import wrapped
from gpuio.devices.driver import Driver
from gpuio.devices.pool import Lease
from gpuio.errors import BackendError
from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.simulated import load, same_kernel, simulate

_GUARD = 64
_FILL = 0xA5
_HOST = 0

Clock = dict[int, int]
"""By number of a stream, how many of its steps are known to have happened.

0 is the host; a thread of a lane, which knows of other threads only what it was told, has the
number of the lane's stream below 0.
"""


class OrderError(BackendError):
    """Two steps use the same memory, and no event orders them."""


@dataclass(slots=True)
class SimulatedStream:
    """A stream: steps that come one after the other.

    Attributes:
        number: Number of the stream, from 1.
        clock: The steps that are known to have happened before its next one.
    """

    number: int
    clock: Clock = field(default_factory=dict)


@dataclass(slots=True, weakref_slot=True)
class _Block:
    """One allocation.

    Attributes:
        start: Address of its first byte.
        end: Address behind its last one.
        what: For messages.
        written: Number of the stream that wrote it last, and its step.
        read: By number of a stream, its last step that read it since.
    """

    start: int
    end: int
    what: str
    written: tuple[int, int] = (_HOST, 0)
    read: Clock = field(default_factory=dict)


class SimulatedMemory:
    """A device: allocations by address, with the order in which they are used.

    Attributes:
        numbers: Those of streams to come.
        default: The stream of threads that have chosen none.
        current: The stream that each thread has chosen.
    """

    def __init__(self) -> None:
        self._host = SimulatedStream(_HOST, {_HOST: 0})  # all threads but those of lanes
        self._thread = threading.local()
        self.numbers = itertools.count(_HOST + 1)
        self.default = SimulatedStream(next(self.numbers))
        self.current = threading.local()
        self._starts: list[int] = []
        self._blocks: list[_Block] = []
        self._touched: dict[int, tuple[_Block, bool]] = {}
        self._lock = SharedLock()

    @property
    def host(self) -> SimulatedStream:
        """The calling thread of the host: a lane's own one, or all others together."""
        host: SimulatedStream = getattr(self._thread, "host", self._host)
        return host

    @contextmanager
    def host_thread(self, number: int, known: Clock) -> Generator[None]:
        """Make the calling thread one of its own, which knows only what it was told."""
        self._thread.host = SimulatedStream(number, dict(known))
        try:
            yield
        finally:
            del self._thread.host

    def allocate(self, nbytes: int, what: str) -> npt.NDArray[np.uint8]:
        """(nbytes,) uint8 with guard bytes around it, forgotten when nothing refers to it."""
        raw = np.full(nbytes + 2 * _GUARD, _FILL, np.uint8)
        array = raw[_GUARD : _GUARD + nbytes]
        block = _Block(array.ctypes.data, array.ctypes.data + nbytes, what)
        with self._lock:
            at = bisect.bisect(self._starts, block.start)
            self._starts.insert(at, block.start)
            self._blocks.insert(at, block)
        weakref.finalize(raw, self._forget, block).atexit = False
        return array

    def load(self, address: int, nbytes: int) -> bytes:
        """The bytes at `address`."""
        self.use(address, nbytes, written=False)
        return ctypes.string_at(address, nbytes)

    def store(self, address: int, data: bytes) -> None:
        """Write bytes at `address`."""
        self.use(address, len(data), written=True)
        ctypes.memmove(address, data, len(data))

    @contextmanager
    def step(self, stream: SimulatedStream | None) -> Generator[None]:
        """What happens inside is one step of a stream, or of the host.

        Raises:
            OrderError: It uses memory out of order.
        """
        with self._lock:
            by = self.host if stream is None else stream
            number, clock = by.number, by.clock
            if stream is not None:
                _learn(clock, self.host.clock)  # the host gave the step after all that it knew
            now = clock[number] = clock.get(number, 0) + 1
            self._touched.clear()
            yield
            for block, written in self._touched.values():
                self._check(block, clock, number, written=written)
                if written:
                    block.written, block.read = (number, now), {}
                else:
                    block.read[number] = now

    def use(self, address: int, nbytes: int, *, written: bool) -> None:
        """Say that the step under way uses these bytes.

        Raises:
            BackendError: They are not all in one allocation.
        """
        at = bisect.bisect(self._starts, address) - 1
        block = self._blocks[at] if at >= 0 else None
        if block is None or address + nbytes > block.end:
            verb = "written" if written else "read"
            near = "nothing is allocated there" if block is None else _beside(block, address)
            raise BackendError(f"{nbytes} bytes at {address:#x} are {verb}: {near}")
        before = self._touched.get(block.start)
        self._touched[block.start] = (block, written or (before is not None and before[1]))

    def _check(self, block: _Block, clock: Clock, number: int, *, written: bool) -> None:
        who = _name(number)
        other, when = block.written
        if clock.get(other, 0) < when:
            verb = "writes" if written else "reads"
            raise OrderError(f"{who} {verb} {block.what} that {_name(other)} has yet to write")
        for reader, when in block.read.items() if written else ():
            if clock.get(reader, 0) < when:
                raise OrderError(f"{who} writes {block.what} that {_name(reader)} has yet to read")

    def _forget(self, block: _Block) -> None:
        with self._lock:
            at = bisect.bisect_left(self._starts, block.start)
            while self._blocks[at] is not block:
                at += 1
            del self._starts[at], self._blocks[at]


def _learn(clock: Clock, other: Clock) -> None:
    for number, step in dict(other).items():  # a copy: other threads go on learning
        clock[number] = max(clock.get(number, 0), step)


def _name(number: int) -> str:
    return "the host" if number <= _HOST else f"stream {number}"


def _beside(block: _Block, address: int) -> str:
    return f"that is {address - block.start} bytes into {block.what} of {block.end - block.start}"


class SimulatedArray(np.ndarray[tuple[int, ...], np.dtype[Any]]):  # type: ignore[explicit-any]
    """An array in simulated memory that was exported: read it with `to_host`."""

    _driver: SimulatedDriver | None = None
    _ready: Clock | None = None
    _lease: Lease | None = None
    _stream: SimulatedStream | None = None

    def __array_finalize__(self, origin: object) -> None:
        for name in ("_driver", "_ready", "_lease", "_stream"):
            setattr(self, name, getattr(origin, name, None))

    device_id = None

    def order(self) -> None:
        """Let the current stream wait for the batch, and note that it reads it."""
        if self._driver is not None and self._ready is not None and self._lease is not None:
            self._stream = self._driver.current_stream()
            self._driver.wait(self._stream, self._ready)
            self._lease.readers.append(self._stream)

    def to_host(self) -> HostArray:
        """A copy, made after the work of the stream that reads the array."""
        self.synchronize()
        if self._driver is not None:
            with self._driver.memory.step(None):
                self._driver.memory.use(self.ctypes.data, 1, written=False)
        return self.view(np.ndarray).copy()

    def synchronize(self) -> None:
        """Make the host wait for the work of the stream that reads the array."""
        if self._driver is not None:
            self._driver.synchronize(self._driver.record(self._stream))


class SimulatedDriver(Driver):
    """CUDA's part, played by NumPy and Numba's simulator.

    Args:
        memory: The device; one of its own if None.
    """

    name = "simulated"
    device_id = None

    def __init__(self, memory: SimulatedMemory | None = None) -> None:
        self.memory = SimulatedMemory() if memory is None else memory

    def new_stream(self) -> SimulatedStream:
        return SimulatedStream(next(self.memory.numbers))

    def current_stream(self) -> SimulatedStream:
        stream: SimulatedStream = getattr(self.memory.current, "stream", self.memory.default)
        return stream

    def handle(self, stream: SimulatedStream) -> int:
        return 0

    def record(self, stream: SimulatedStream | None) -> Clock:
        assert stream is not None
        return dict(stream.clock)

    def wait(self, stream: SimulatedStream, event: Clock) -> None:
        _learn(stream.clock, event)

    def synchronize(self, event: Clock) -> None:
        _learn(self.memory.host.clock, event)

    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        return self.memory.allocate(nbytes, "pinned memory")

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return self.memory.allocate(nbytes, "device memory").view(dtype).reshape(shape)

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def wrap(self, memory: Array, owner: object) -> Array:
        return wrapped(memory, owner)

    def copy(self, to: int, start: int, nbytes: int, stream: SimulatedStream) -> None:
        with self.memory.step(stream):
            self.memory.use(start, nbytes, written=False)
            self.memory.use(to, nbytes, written=True)
            ctypes.memmove(to, start, nbytes)

    def fill(self, start: int, value: int, nbytes: int, stream: SimulatedStream) -> None:
        with self.memory.step(stream):
            self.memory.use(start, nbytes, written=True)
            ctypes.memset(start, value, nbytes)

    def launch(
        self,
        kernel: DeviceKernel,
        grid: tuple[int, int, int],
        args: tuple[int, ...],
        stream: SimulatedStream,
    ) -> None:
        with self.memory.step(stream):
            simulate(same_kernel(self._kernels, kernel), grid, args)

    @cached_property
    def _kernels(self) -> ModuleType:
        return load(self.memory)

    def host_writes(self, start: int) -> None:
        with self.memory.step(None):
            self.memory.use(start, 1, written=True)

    def stream_writes(self, start: int, stream: SimulatedStream) -> None:
        with self.memory.step(stream):
            self.memory.use(start, 1, written=True)

    def hand_over(self) -> Clock:
        return dict(self.memory.host.clock)

    def take_over(self, known: Clock | None) -> None:
        _learn(self.memory.host.clock, known or {})

    def export(self, data: Array, ready: Clock, lease: Lease) -> SimulatedArray:
        array: SimulatedArray = data.view(SimulatedArray)
        array._driver, array._ready, array._lease = self, ready, lease
        array.order()
        return array

    def scope(self) -> AbstractContextManager[None]:
        return nullcontext()

    @contextmanager
    def use_stream(self, stream: SimulatedStream) -> Generator[None]:
        """Make a stream current in the calling thread, as a consumer does with CuPy's."""
        before = self.current_stream()
        self.memory.current.stream = stream
        try:
            yield
        finally:
            self.memory.current.stream = before

    @contextmanager
    def lane_scope(self, stream: SimulatedStream, known: Clock) -> Generator[None]:
        with self.use_stream(stream), self.memory.host_thread(-stream.number, known):
            yield


@cache
def simulated_device() -> SimulatedMemory:
    """The one simulated device of this process."""
    return SimulatedMemory()


if hasattr(os, "register_at_fork"):
    # A thread of the parent may have been in the middle of a step.
    os.register_at_fork(after_in_child=simulated_device.cache_clear)
