"""A store in the memory of the GPU that makes the batches, for one pipeline alone."""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Array, Device
from gpuio.pipeline.cache.entries import HEADER
from gpuio.pipeline.cache.store import Store

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

_CHUNK: Final = 256 << 20  # bytes that are allocated at once


class DeviceStore(Store):
    """A store whose pixels kernels write and read, in order on the device's own stream.

    Memory is allocated chunk by chunk, and never given back before the end.

    Args:
        device: The device.
        count: Number of records.
        dtype: Of their entries, which lie in host memory.
        limit: The most bytes of device memory.
    """

    def __init__(self, device: Device, count: int, dtype: np.dtype[np.void], limit: int) -> None:
        self.header, self.index = np.zeros(1, HEADER), np.zeros(count, dtype)
        self._device, self._left = device, limit
        self._chunks: list[Array] = []
        self._free = range(0)  # addresses of the last chunk that are free
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, _free, device, self._chunks)
        self._finalizer.atexit = False

    def close(self) -> None:
        self.index, self._free = self.index[:0], range(0)
        self._finalizer()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self._lock:
            yield

    def allocate(self, nbytes: Int64s) -> UInt64s:
        offsets = np.zeros(len(nbytes), np.uint64)
        done = 0
        while done < len(nbytes):
            ends = self._free.start + np.cumsum(nbytes[done:])
            count = int(np.searchsorted(ends, self._free.stop, "right"))
            offsets[done : done + count] = ends[:count] - nbytes[done : done + count]
            if count:
                self._free = range(int(ends[count - 1]), self._free.stop)
            done += count
            if done < len(nbytes) and not self._extend(int(nbytes[done])):
                break
        return offsets[:done]

    def _extend(self, nbytes: int) -> bool:
        """Take a chunk for an image of `nbytes`; False where there is no memory for it."""
        size = min(max(nbytes, _CHUNK), self._left)
        if size < nbytes:
            return False
        try:
            chunk = self._device.empty((size,), np.uint8)
        except MemoryError as error:
            self._left = 0
            warnings.warn(
                f"cache: {self._device.name} has no memory for more than "
                f"{self.header['nbytes'][0]} bytes of images, so no more are kept: {error}",
                stacklevel=2,
            )
            return False
        self._chunks.append(chunk)
        self._left -= size
        self.header["used"] += size
        start = self._device.address(chunk)
        self._free = range(start, start + size)
        return True


def _free(device: Device, chunks: list[Array]) -> None:
    """Free memory once no kernel uses it: freeing does not wait by itself."""
    try:
        device.record().synchronize()
    finally:  # also when the device has failed
        chunks.clear()
