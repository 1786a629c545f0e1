"""The CPU as a device: NumPy memory, POSIX threads, and nothing to wait for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from gpuio.core.threads import available_cores
from gpuio.devices.base import (
    DONE,
    LARGE,
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
from gpuio.kernels.parallel import Launch, Task

_PAGE = 4096
_ALIGNMENT = 64


def _pages(nbytes: int) -> int:
    """Bytes, rounded up to whole pages."""
    return -(-nbytes // _PAGE) * _PAGE


class _Owned:
    """The base of a NumPy array; NumPy skips bases that are arrays themselves, but not this one."""

    def __init__(self, memory: HostArray, owner: object) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._owner = owner


def wrapped(memory: HostArray, owner: object) -> HostArray:
    """An array over `memory` that keeps `owner` alive, as do all views of it."""
    # The interface has only NumPy's own types; bfloat16 goes through it as raw bytes.
    return np.asarray(_Owned(memory, owner)).view(memory.dtype)


class _HeldProgram(NamedTuple):
    """What runs on the items of a batch.

    Attributes:
        calls: Kernels and their arguments.
        nbytes: (N,) int64, memory that each item takes, in bytes.
        keep_alive: Owners of the memory that the kernels use.
    """

    calls: list[tuple[Task, tuple[int, ...]]]
    nbytes: npt.NDArray[np.int64]
    keep_alive: list[object]


@dataclass(slots=True)
class _Workers:
    """`count` workers from number `first`, which run one program at a time, and their memory."""

    memory: Slot
    first: int
    count: int

    def launch(
        self,
        program: _HeldProgram,
        items: npt.NDArray[np.int64],
        count: int | None = None,
        *,
        alone: bool = False,
    ) -> Launch:
        """Start a program on some items.

        Args:
            program: The program.
            items: (M,) int64 numbers of the items.
            count: Number of workers; all when None.
            alone: Take memory for this launch alone, which is freed after it.

        Raises:
            MemoryError: There is not enough memory; nothing was started.
        """
        count = self.count if count is None else count
        stride = _pages(int(program.nbytes[items].max(initial=0)))
        total = stride * count + _PAGE
        memory = np.empty(total, np.uint8) if alone else self.memory.reserve(total)
        base = _pages(int(memory.ctypes.data))
        owners = [memory, *program.keep_alive]
        return Launch(program.calls, items, count, base, stride, self.first, owners)


class _Running:
    """A program at work; `join` runs the (M,) large items and then frees the workers."""

    def __init__(
        self,
        program: _HeldProgram,
        launch: Launch,
        large: npt.NDArray[np.int64],
        workers: _Workers,
        free: list[_Workers],
    ) -> None:
        self.starved: dict[int, int] = {}
        self._program, self._launch, self._large = program, launch, large
        self._workers, self._free = workers, free

    def join(self) -> npt.NDArray[np.int64]:
        try:
            spent: npt.NDArray[np.int64] = self._launch.join()
            if len(self._large):
                spent = spent + self._run_large()
        finally:
            self._free.append(self._workers)
        return spent

    def _run_large(self) -> npt.NDArray[np.int64]:
        """Run the items that take much memory, the largest first, on as many threads as fit.

        An item is starved if there is not enough memory for it even alone.
        """
        nbytes = self._program.nbytes
        spent = np.zeros(len(self._program.calls), np.int64)
        left = self._large[np.argsort(nbytes[self._large])[::-1]]
        limit = self._workers.count * LARGE
        while len(left):
            most = int(nbytes[left[0]])
            count = max(1, min(self._workers.count, len(left), limit // max(most, 1)))
            items = left if count > 1 else left[:1]
            try:
                launch = self._workers.launch(self._program, items, count, alone=True)
            except MemoryError:
                if count == 1:
                    self.starved[int(left[0])] = most
                    left = left[1:]
                limit = most * (count // 2)
                continue
            spent += launch.join()
            left = left[len(items) :]
        return spent


class _Work(Work):
    """Tables stay where they are."""

    def __init__(self, free: list[_Workers]) -> None:
        super().__init__()
        self._free = free
        self._kept: list[object] = []

    def _upload(self, host: HostArray) -> int:
        return self.keep(host)

    def keep(self, host: HostArray) -> int:
        self._kept.append(host)
        return int(host.ctypes.data)

    def _start(self, program: Sequence[KernelCall], nbytes: npt.NDArray[np.int64]) -> Running:
        self._kept += program
        workers = self._free[-1]  # there are free ones unless more than max_in_flight are at work
        running = _HeldProgram([call.call for call in program], nbytes, self._kept)
        usual, large = np.flatnonzero(nbytes <= LARGE), np.flatnonzero(nbytes > LARGE)
        try:
            launch = workers.launch(running, usual)
        except MemoryError:  # less memory may be enough, once the work before this is done
            usual, large = usual[:0], np.arange(len(nbytes))
            launch = Launch(running.calls, usual, 1)
        self._free.pop()
        return _Running(running, launch, large, workers, self._free)


class CpuDevice(Device):
    """Runs kernels on `threads` threads, while the calling thread waits without the GIL.

    A program is run item by item, each in memory that its thread uses again and again, so that a
    decoded picture stays in the cache until it is in the batch. Two programs may run at once: the
    second one keeps the cores busy while Python handles the end of the first, which can take long
    where a training loop holds the GIL.

    The workers' memory is at most 64 MiB (`base.LARGE`) for each thread of either program. Images
    that take more are done after the others of their batch, as many at once as fit in 64 MiB for
    each thread, or one; their memory is freed at once. So the largest total is three times 64 MiB
    for each thread, or two times that and the largest image.

    Args:
        threads: At least 1; all available cores when None.
    """

    name = "cpu"
    max_in_flight = 2

    def __init__(self, threads: int | None = None) -> None:
        self.threads = available_cores() if threads is None else threads
        most = self.threads * LARGE + _PAGE
        self._free = [
            _Workers(Slot(self.empty_host, most=most), number * self.threads, self.threads)
            for number in range(self.max_in_flight)
        ]

    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        memory = np.empty(nbytes, np.uint8)
        memory.fill(0)  # touch every page now, so that memory use does not grow later
        return memory

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        # JAX takes memory over without a copy only at a multiple of this alignment.
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        memory = np.empty(nbytes + _ALIGNMENT, np.uint8)
        start = -self.address(memory) % _ALIGNMENT
        return memory[start : start + nbytes].view(dtype).reshape(shape)

    def upload(self, host: HostArray) -> Array:
        return host

    def download(self, array: Array) -> HostArray:
        return np.asarray(array)

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

    def after(self, readers: Sequence[Stream]) -> Event:
        return DONE

    def scope(self) -> AbstractContextManager[None]:
        return nullcontext()
