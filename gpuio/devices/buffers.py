"""The memory of one batch on a GPU: tables of its kernels, and an arena with its items."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import DONE, Array, Event, HostArray, Stream
from gpuio.devices.driver import Driver
from gpuio.devices.ring import Slot
from gpuio.kernels.copies import COPY_JOB, copy_items
from gpuio.kernels.parallel import run_program

ALIGNMENT = 256
"""Bytes to which items and tables are aligned, as CUDA aligns its own allocations."""
_CHUNK = 1 << 20


class BatchTables:
    """The tables of a batch, at the same offsets in pinned memory and in device memory."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._chunks: list[tuple[npt.NDArray[np.uint8], Array]] = []
        self._used: list[int] = []
        self.clear()

    def clear(self) -> None:
        """Remove all tables and free large chunks that were not used; no copy may be under way."""
        used = zip(self._chunks, self._used, strict=True)
        self._chunks = [chunk for chunk, used in used if used or len(chunk[0]) == _CHUNK]
        self._used = [0] * len(self._chunks)
        self._at = 0

    def reserve(self, nbytes: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Pinned memory, and the address at which the device will find its content."""
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        while self._at < len(self._chunks):
            pinned, memory = self._chunks[self._at]
            begin = self._used[self._at]
            if begin + size <= len(pinned):
                self._used[self._at] += size
                self._driver.host_writes(pinned.ctypes.data)
                return pinned[begin : begin + nbytes], self._driver.address(memory) + begin
            self._at += 1
        total = max(_CHUNK, size + size // 4)
        pinned = self._driver.empty_host(total)
        self._chunks.append((pinned, self._driver.empty((total,), np.uint8)))
        self._used.append(0)
        return self.reserve(nbytes)

    def put(self, host: HostArray) -> int:
        """The address at which the device will find a copy of `host`."""
        pinned, address = self.reserve(host.nbytes)
        pinned[:] = np.ascontiguousarray(host).view(np.uint8).reshape(-1)
        return address

    def put_all(self, hosts: Sequence[HostArray], threads: int) -> npt.NDArray[np.uint64]:
        """(len(hosts),) addresses at which the device will find copies, which lie side by side.

        Args:
            hosts: Contiguous arrays, such as the pixels of a batch that the host has decoded.
            threads: Threads that copy them to pinned memory.
        """
        nbytes = np.array([host.nbytes for host in hosts], np.int64)
        sizes = -(-nbytes // ALIGNMENT) * ALIGNMENT
        begins = (np.cumsum(sizes) - sizes).astype(np.uint64)
        pinned, address = self.reserve(int(sizes.sum()))
        jobs = np.zeros(len(hosts), COPY_JOB)
        jobs["dst"] = np.uint64(pinned.ctypes.data) + begins
        jobs["src"] = [host.ctypes.data for host in hosts]
        jobs["nbytes"] = nbytes
        run_program([(copy_items, (jobs.ctypes.data, _memcpy()))], len(hosts), threads)
        return np.uint64(address) + begins

    def send(self, stream: Stream) -> None:
        """Queue the copies to the device, one for each chunk."""
        for (pinned, memory), used in zip(self._chunks, self._used, strict=True):
            if used:
                to, start = self._driver.address(memory), pinned.ctypes.data
                self._driver.copy(to, start, used, stream)


class DeviceScratch:
    """Device memory that is handed out piece by piece; kernels alone write to it."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self._chunks: list[Array] = []
        self._used = 0

    def clear(self) -> None:
        """Take all pieces back; chunks become one that would have held them all."""
        if len(self._chunks) > 1:
            total = sum(map(len, self._chunks))
            self._chunks = []
            self._chunks = [self._driver.empty((total,), np.uint8)]
        self._used = 0

    def reserve(self, nbytes: int) -> int:
        """The address of a piece."""
        size = -(-nbytes // ALIGNMENT) * ALIGNMENT
        if not self._chunks or self._used + size > len(self._chunks[-1]):
            self._chunks.append(self._driver.empty((max(_CHUNK, size),), np.uint8))
            self._used = 0
        begin, self._used = self._used, self._used + size
        return self._driver.address(self._chunks[-1]) + begin


class BatchBuffers:
    """The memory of one batch on the device.

    Attributes:
        tables: Tables of its kernels.
        scratch: Tables that kernels make for others.
        arena: Memory of its items.
        fence: The last work that uses the memory, once it is queued.
        at_work: Whether work that uses the memory has still to be queued.
    """

    def __init__(self, driver: Driver) -> None:
        self.tables = BatchTables(driver)
        self.scratch = DeviceScratch(driver)
        self.arena = Slot(lambda nbytes: driver.empty((nbytes,), np.uint8))
        self.fence: Event = DONE
        self.at_work = False


@cache
def _memcpy() -> int:
    """Address of the C library's function."""
    return ctypes.cast(ctypes.CDLL(None).memcpy, ctypes.c_void_p).value or 0
