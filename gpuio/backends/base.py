"""The one seam between CPU and GPU: where memory lives and where kernels run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = Any
"""An array in a backend's memory: `numpy.ndarray` or `cupy.ndarray`."""


class Event(Protocol):
    """A point in a stream's work."""

    def wait(self) -> None:
        """Hold back the current stream, not the calling thread."""

    def synchronize(self) -> None:
        """Hold back the calling thread."""


class _Done:
    """An event that has always happened."""

    def wait(self) -> None: ...

    def synchronize(self) -> None: ...


DONE: Event = _Done()


Link = tuple[Any, Sequence[int]]
"""A kernel (`gpuio.kernels.parallel.Task`) and its words: addresses and sizes."""


class Running(Protocol):
    """Kernels at work."""

    def join(self) -> npt.NDArray[np.int64]:
        """Wait for the end, once.

        Returns:
            (kernels,) nanoseconds spent in each by all threads, where that is known.
        """


class Backend(ABC):
    """One device. Everything a room does differently on CPU and GPU is a method here.

    Attributes:
        device: Its name, such as "cpu" or "cuda:0".
        threads: CPU threads that a chain of kernels may use.
        lanes: Chains that may run at once.
    """

    device: str
    threads: int
    lanes: int = 1

    @abstractmethod
    def empty_host(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Host memory of shape (nbytes,) that the device can read without a staging copy."""

    @abstractmethod
    def empty(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """Uninitialised device memory."""

    def empty_bytes(self, nbytes: int) -> Array:
        """Uninitialised device memory of shape (nbytes,), uint8."""
        return self.empty((nbytes,), np.uint8)

    @abstractmethod
    def upload(self, host: npt.NDArray[Any]) -> Array:
        """`host` in device memory, in order with the current stream."""

    @abstractmethod
    def address(self, array: Array) -> int:
        """Where `array` starts, as kernels take it."""

    @abstractmethod
    def adopt(self, memory: Array, owner: object) -> Array:
        """An array over `memory` that keeps `owner` alive, as do all views of it."""

    @abstractmethod
    def start(self, chain: Sequence[Link], count: int, nbytes: int = 0) -> Running:
        """Begin to run kernels one after the other over `count` items, after what runs already.

        Args:
            chain: The kernels.
            count: Items.
            nbytes: Memory that each item may use while it passes through the chain.
        """

    def run(self, chain: Sequence[Link], count: int, nbytes: int = 0) -> npt.NDArray[np.int64]:
        """As `start`, and wait until all is done; what `Running.join` returns."""
        return self.start(chain, count, nbytes).join()

    @abstractmethod
    def record(self) -> Event:
        """The work queued on the current stream so far."""

    @abstractmethod
    def scope(self) -> AbstractContextManager[None]:
        """Make this device, and a stream of its own, current in the calling thread."""
