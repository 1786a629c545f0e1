"""The CPU as a device: NumPy memory, POSIX threads, and nothing to wait for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import DONE, Array, Backend, Event, Link, Running
from gpuio.backends.ring import Slot
from gpuio.kernels.parallel import Launch, run_chain

_PAGE = 4096


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


class _InLane:
    """A launch with its lane, which is free again after `join`."""

    def __init__(self, launch: Launch, lane: int, free: list[int]) -> None:
        self._launch, self._lane, self._free = launch, lane, free

    def join(self) -> npt.NDArray[np.int64]:
        spent: npt.NDArray[np.int64] = self._launch.join()
        self._free.append(self._lane)
        return spent


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
        return np.empty(shape, dtype)

    def upload(self, host: npt.NDArray[Any]) -> Array:
        return host

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def adopt(self, memory: Array, owner: object) -> Array:
        return np.asarray(_Owned(memory, owner))

    def start(self, chain: Sequence[Link], count: int, nbytes: int = 0) -> Running:
        if not nbytes:
            return Launch(chain, count, self.threads)
        lane = self._free.pop()  # empty only if more chains are started than there are lanes
        stride = -(-nbytes // _PAGE) * _PAGE
        memory = self._memory[lane].reserve(stride * self.threads + _PAGE)
        base = -(-self.address(memory) // _PAGE) * _PAGE
        launch = Launch(chain, count, self.threads, base, stride, lane * self.threads)
        return _InLane(launch, lane, self._free)

    def run(self, chain: Sequence[Link], count: int, nbytes: int = 0) -> npt.NDArray[np.int64]:
        if nbytes or min(self.threads, count) > 1:
            return super().run(chain, count, nbytes)
        return run_chain(chain, count, 1)

    def record(self) -> Event:
        return DONE

    def scope(self) -> AbstractContextManager[None]:
        return nullcontext()
