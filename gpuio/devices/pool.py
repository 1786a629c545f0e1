"""Output batches: memory that belongs to the consumer for as long as anything refers to it."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable

import numpy.typing as npt

from gpuio.devices.base import Array, Device, Event, Stream


class Lease:
    """Owner of one lent buffer; arrays over it keep the lease alive, and its end frees the buffer.

    Attributes:
        memory: The buffer.
        readers: Streams of the consumer that read it; the buffer is used again only after the work
            that was queued on them when the lease ended.
    """

    __slots__ = ("__weakref__", "memory", "readers")

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.readers: list[Stream] = []


class OutputPool:
    """Arrays of one shape, each used again once nothing refers to it any more.

    A consumer may keep any number of them: a new one is made where none is free.

    Args:
        device: The device of the arrays.
        shape: Shape of an array.
        dtype: Type of the elements.
        keep: Number of free arrays that are kept for later.
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
        """An uninitialised array that nothing else refers to, and its lease."""
        try:
            memory, fence = self._free.popleft()  # free for longest, so its readers are likely done
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
    pool: weakref.ref[OutputPool], device: Device, memory: Array, readers: list[Stream]
) -> None:
    fence, owner = device.after(readers), pool()
    if owner is None:
        _drop([(memory, fence)])
    else:
        owner.put(memory, fence)


def _drop(arrays: Iterable[tuple[Array, Event]]) -> None:
    """Wait until no stream reads the arrays: freeing their memory does not wait by itself."""
    for _, fence in arrays:
        fence.synchronize()
