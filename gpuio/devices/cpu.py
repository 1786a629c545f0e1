"""The CPU as a device: NumPy memory, POSIX threads, and nothing to wait for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import available_cores
from gpuio.devices.base import DONE, LARGE, Array, Device, Event, KernelCall, Running, Work
from gpuio.devices.pool import Lease
from gpuio.devices.ring import Slot
from gpuio.kernels.parallel import Launch

_PAGE = 4096
_ALIGNMENT = 64


def _pages(nbytes: int) -> int:
    """Bytes, rounded up to whole pages."""
    return -(-nbytes // _PAGE) * _PAGE


class _Owned:
    """The base of a NumPy array; NumPy skips bases that are arrays themselves, but not this one."""

    def __init__(self, memory: npt.NDArray[Any], owner: object) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._owner = owner


def wrapped(memory: npt.NDArray[Any], owner: object) -> npt.NDArray[Any]:
    """An array over `memory` that keeps `owner` alive, as do all views of it."""
    # The interface has only NumPy's own types; bfloat16 goes through it as raw bytes.
    return np.asarray(_Owned(memory, owner)).view(memory.dtype)


@dataclass(slots=True)
class _InFlight:
    """What one program has to itself.

    Attributes:
        memory: That of its workers.
        first: Number of its first worker.
        threads: Workers that it may have.
    """

    memory: Slot
    first: int
    threads: int

    def launch(
        self,
        calls: Sequence[tuple[Any, tuple[int, ...]]],
        items: npt.NDArray[np.int64],
        nbytes: int,
        workers: int,
        held: list[Any],
        *,
        alone: bool = False,
    ) -> Launch:
        """Start kernels on some items, with `nbytes` of memory for each of `workers`.

        Raises:
            MemoryError: There is not enough memory; nothing was started.
        """
        stride = _pages(nbytes)
        total = stride * workers + _PAGE
        memory = np.empty(total, np.uint8) if alone else self.memory.reserve(total)
        base = _pages(int(memory.ctypes.data))
        return Launch(calls, items, workers, base, stride, self.first, [memory, *held])


class _Running:
    """A launch, what is to be done after it, and its lane, which is free again after `join`.

    Args:
        launch: Of all items but those that take much memory.
        lane: Where it runs.
        free: Lanes that are free.
        calls: The kernels.
        large: (N,) the other items.
        nbytes: (items,) memory that each item takes.
        held: What owns the memory that kernels use.
    """

    def __init__(
        self,
        launch: Launch,
        lane: _InFlight,
        free: list[_InFlight],
        calls: list[tuple[Any, tuple[int, ...]]],
        large: npt.NDArray[np.int64],
        nbytes: npt.NDArray[np.int64],
        held: list[Any],
    ) -> None:
        self.starved: dict[int, int] = {}
        self._launch, self._lane, self._free = launch, lane, free
        self._calls, self._large, self._nbytes, self._held = calls, large, nbytes, held

    def join(self) -> npt.NDArray[np.int64]:
        try:
            spent: npt.NDArray[np.int64] = self._launch.join()
            if len(self._large):
                spent = spent + self._run_large()
        finally:
            self._free.append(self._lane)
        return spent

    def _run_large(self) -> npt.NDArray[np.int64]:
        """Run the items that take much memory, the largest first, on as many threads as fit.

        An item that finds no memory even alone is starved.
        """
        spent = np.zeros(len(self._calls), np.int64)
        left = self._large[np.argsort(self._nbytes[self._large])[::-1]]
        limit = self._lane.threads * LARGE
        while len(left):
            most = int(self._nbytes[left[0]])
            workers = max(1, min(self._lane.threads, len(left), limit // max(most, 1)))
            items = left if workers > 1 else left[:1]
            try:
                launch = self._lane.launch(
                    self._calls, items, most, workers, self._held, alone=True
                )
            except MemoryError:
                if workers == 1:
                    self.starved[int(left[0])] = most
                    left = left[1:]
                limit = most * (workers // 2)
                continue
            spent += launch.join()
            left = left[len(items) :]
        return spent


class _Work(Work):
    """Tables stay where they are."""

    def __init__(self, free: list[_InFlight]) -> None:
        self._free = free
        self._kept: list[Any] = []

    def upload(self, host: npt.NDArray[Any]) -> int:
        return self.keep(host)

    def keep(self, host: npt.NDArray[Any]) -> int:
        self._kept.append(host)
        return int(host.ctypes.data)

    def start(self, program: Sequence[KernelCall], nbytes: npt.NDArray[np.int64]) -> Running:
        self._kept += program
        lane = self._free[-1]  # empty only if more works are started than there are max_in_flight
        calls = [call.call for call in program]
        usual, large = np.flatnonzero(nbytes <= LARGE), np.flatnonzero(nbytes > LARGE)
        most = int(nbytes[usual].max(initial=0))
        try:
            launch = lane.launch(calls, usual, most, lane.threads, self._kept)
        except MemoryError:  # less may do, after the work before this
            usual, large = usual[:0], np.arange(len(nbytes))
            launch = Launch(calls, usual, 1)
        self._free.pop()
        return _Running(launch, lane, self._free, calls, large, nbytes, self._kept)


class CpuDevice(Device):
    """Runs kernels on `threads` threads, while the calling thread waits without the GIL.

    A program is run item by item, and the memory for an item is its thread's, used again and again:
    a decoded picture stays in the cache until it is in the batch. Two programs may run at once: the
    second one keeps the cores busy while Python sees to the end of the first, which can take long
    where a training loop holds the GIL.

    The workers' memory is at most 64 MiB (`base.LARGE`) for each thread of either program. Images
    that take more are done after the others of their batch, as many at once as fit in 64 MiB for
    each thread, or one; their memory is given back at once. So the most that there can be are
    three times 64 MiB for each thread; or two times that, and the largest image.

    Args:
        threads: At least 1; all available cores when None.
    """

    name = "cpu"
    max_in_flight = 2

    def __init__(self, threads: int | None = None) -> None:
        self.threads = available_cores() if threads is None else threads
        most = self.threads * LARGE + _PAGE
        self._free = [
            _InFlight(Slot(self.empty_host, most=most), lane * self.threads, self.threads)
            for lane in range(self.max_in_flight)
        ]

    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        memory = np.empty(nbytes, np.uint8)
        memory.fill(0)  # take all of it now: what a process uses should not creep up later
        return memory

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        # At a multiple of what JAX wants of memory that it takes over without a copy.
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -self.address(memory) % _ALIGNMENT
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def upload(self, host: npt.NDArray[Any]) -> Array:
        return host

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def wrap(self, memory: Array, owner: object) -> Array:
        return wrapped(memory, owner)

    def work(self) -> Work:
        return _Work(self._free)

    def gather_items(self, data: Array, places: npt.NDArray[np.int64], fill: int = 0) -> None:
        data[:] = data[places]
        data[places < 0] = fill

    def record(self) -> Event:
        return DONE

    def export(self, data: Array, ready: Event, lease: Lease) -> Array:
        return data

    def after(self, readers: Sequence[Any]) -> Event:
        return DONE

    def scope(self) -> AbstractContextManager[None]:
        return nullcontext()
