"""The CPU as a device: NumPy memory, POSIX threads, and nothing to wait for."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import DONE, Array, Backend, Event, Kernel


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


class CpuBackend(Backend):
    """Runs kernels on `threads` threads, while the calling thread waits without the GIL.

    Args:
        threads: At least 1; all available cores when None.
    """

    device = "cpu"

    def __init__(self, threads: int | None = None) -> None:
        self.threads = available_cores() if threads is None else threads

    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        return np.empty(nbytes, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        return np.empty(shape, dtype)

    def upload(self, host: npt.NDArray[Any]) -> Array:
        return host

    def address(self, array: Array) -> int:
        return int(array.ctypes.data)

    def adopt(self, memory: Array, owner: object) -> Array:
        return np.asarray(_Owned(memory, owner))

    def launch(self, kernel: Kernel, count: int, *words: int) -> None:
        kernel(count, self.threads, *words)

    def record(self) -> Event:
        return DONE

    def scope(self) -> AbstractContextManager[None]:
        return nullcontext()
