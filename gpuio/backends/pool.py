"""Output batches: memory that is the consumer's for as long as anything refers to it."""

from __future__ import annotations

import weakref
from collections import deque

import numpy.typing as npt

from gpuio.backends.base import Array, Backend


class Lease:
    """Owner of one lent buffer: arrays over the buffer keep it alive, and its end frees it."""

    __slots__ = ("__weakref__", "memory")

    def __init__(self, memory: Array) -> None:
        self.memory = memory


class OutputPool:
    """Equal arrays, used again as soon as nothing refers to them any more.

    A consumer may keep as many as it likes: new ones are made as long as none is free.

    Args:
        backend: Where they live.
        shape: Of one array.
        dtype: Of its elements.
        keep: Free arrays kept for later.
    """

    def __init__(
        self, backend: Backend, shape: tuple[int, ...], dtype: npt.DTypeLike, keep: int
    ) -> None:
        self._backend = backend
        self._shape = shape
        self._dtype = dtype
        self._free: deque[Array] = deque(maxlen=keep)

    def take(self) -> Array:
        """An array of the shape, uninitialised, that nobody else refers to."""
        try:
            memory = self._free.pop()
        except IndexError:
            memory = self._backend.empty(self._shape, self._dtype)
        lease = Lease(memory)
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return self._backend.adopt(memory, lease)
