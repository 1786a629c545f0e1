"""The CPU as a device: NumPy memory, POSIX threads, and nothing to wait for."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import DONE, Array, Backend, Event, Link, Running, Work
from gpuio.backends.pool import Lease
from gpuio.backends.ring import Slot
from gpuio.kernels.parallel import Launch
from gpuio.ndarray import NDArray

_PAGE = 4096
_ALIGNMENT = 64


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Owned:
    """What NumPy takes as the base of an array; unlike an array, it is never skipped over."""

    def __init__(self, memory: npt.NDArray[Any], owner: object) -> None:
        self.__array_interface__ = memory.__array_interface__
        self._owner = owner


def adopted(memory: npt.NDArray[Any], owner: object) -> npt.NDArray[Any]:
    """An array over `memory` that keeps `owner` alive, as do all views of it."""
    # The interface knows types of NumPy's own only; any other one is so many bytes.
    return np.asarray(_Owned(memory, owner)).view(memory.dtype)


class _Running:
    """A launch with its lane, which is free again after `join`."""

    def __init__(self, launch: Launch, lane: int, free: list[int]) -> None:
        self._launch, self._lane, self._free = launch, lane, free

    def join(self) -> npt.NDArray[np.int64]:
        spent: npt.NDArray[np.int64] = self._launch.join()
        self._free.append(self._lane)
        return spent


class _Work(Work):
    """Tables stay where they are."""

    def __init__(self, memory: list[Slot], free: list[int], threads: int) -> None:
        self._memory, self._free, self._threads = memory, free, threads
        self._kept: list[Any] = []

    def upload(self, host: npt.NDArray[Any]) -> int:
        return self.keep(host)

    def keep(self, host: npt.NDArray[Any]) -> int:
        self._kept.append(host)
        return int(host.ctypes.data)

    def start(self, chain: Sequence[Link], nbytes: npt.NDArray[np.int64]) -> Running:
        self._kept += chain
        stride = -(-int(nbytes.max(initial=0)) // _PAGE) * _PAGE
        lane = self._free[-1]  # empty only if more works are started than there are lanes
        memory = self._memory[lane].reserve(stride * self._threads + _PAGE)
        base = -(-int(memory.ctypes.data) // _PAGE) * _PAGE
        calls = [link.call for link in chain]
        first, held = lane * self._threads, [memory, *self._kept]
        launch = Launch(calls, len(nbytes), self._threads, base, stride, first, held)
        self._free.pop()
        return _Running(launch, lane, self._free)


class CpuBackend(Backend):
    """Runs kernels on `threads` threads, while the calling thread waits without the GIL.

    A chain is run item by item, and the memory for an item is its thread's, used again and again:
    a decoded picture stays in the cache until it is in the batch. Two chains may run at once: the
    second one keeps the cores busy while Python sees to the end of the first, which can take long
    where a training loop holds the GIL.

    Args:
        threads: At least 1; all available cores when None.
    """

    device = "cpu"
    lanes = 2

    def __init__(self, threads: int | None = None) -> None:
        self.threads = available_cores() if threads is None else threads
        self._memory = [Slot(self.empty_host) for _ in range(self.lanes)]
        self._free = list(range(self.lanes))

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

    def adopt(self, memory: Array, owner: object) -> Array:
        return adopted(memory, owner)

    def work(self) -> Work:
        return _Work(self._memory, self._free, self.threads)

    def settle(self, data: Array, places: npt.NDArray[np.int64], fill: int = 0) -> None:
        data[:] = data[places]
        data[places < 0] = fill

    def record(self) -> Event:
        return DONE

    def hand_out(self, data: Array, ready: Event, lease: Lease) -> NDArray:
        array: NDArray = data.view(NDArray)
        return array

    def after(self, readers: Sequence[Any]) -> Event:
        return DONE

    def scope(self) -> AbstractContextManager[None]:
        return nullcontext()
