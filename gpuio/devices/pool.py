"""Output batches: memory that is the consumer's for as long as anything refers to it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy.typing as npt

from gpuio.devices.base import Array, Device, Event


class Lease:
    """Owner of one lent buffer: arrays over the buffer keep it alive, and its end frees it.

    Attributes:
        memory: The buffer.
        readers: Streams of the consumer that read it; when the lease ends, what they were given
            by then comes before the buffer is used again.
    """

    __slots__ = ("__weakref__", "memory", "readers")

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.readers: list[Any] = []


class OutputPool:
    """Equal arrays, used again as soon as nothing refers to them any more.

    A consumer may keep as many as it likes: new ones are made as long as none is free.

    Args:
        device: Where they live.
        shape: Of one array.
        dtype: Of its elements.
        keep: Free arrays kept for later.
    """

    def __init__(
        self, device: Device, shape: tuple[int, ...], dtype: npt.DTypeLike, keep: int
    ) -> None:
        self._device = device
        self._shape = shape
        self._dtype = dtype
        self._keep = keep
        self._free: deque[tuple[Array, Event]] = deque()
        weakref.finalize(self, _drop, self._free).atexit = False

    def take(self) -> tuple[Array, Lease]:
        """An array of the shape, uninitialised, that nobody else refers to, and its lease."""
        try:
            memory, fence = self._free.popleft()  # whose readers have had the most time
            fence.wait()
        except IndexError:
            memory = self._device.empty(self._shape, self._dtype)
        lease = Lease(memory)
        back = (weakref.ref(self), self._device, memory, lease.readers)
        weakref.finalize(lease, _take_back, *back).atexit = False
        return self._device.wrap(memory, lease), lease

    def put(self, memory: Array, fence: Event) -> None:
        """Take an array back, to be written again after `fence`."""
        self._free.append((memory, fence))
        if len(self._free) > self._keep:
            _drop([self._free.popleft()])


def _take_back(
    pool: weakref.ref[OutputPool], device: Device, memory: Array, readers: list[Any]
) -> None:
    fence, owner = device.after(readers), pool()
    if owner is None:
        _drop([(memory, fence)])
    else:
        owner.put(memory, fence)


def _drop(arrays: Iterable[tuple[Array, Event]]) -> None:
    """Wait until arrays are not read any more: where memory goes when it is freed, nobody does."""
    for _, fence in arrays:
        fence.synchronize()
