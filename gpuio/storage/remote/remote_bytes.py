"""`RemoteBytes`: a file at a URL, open for reading at any offset."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from gpuio.errors import PipelineClosedError
from gpuio.storage.byte_source import ByteSource
from gpuio.storage.location import Location
from gpuio.storage.remote.fetch import Fetcher, result
from gpuio.storage.remote.remote_file import RemoteFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LEAST: Final = 64 << 10  # bytes of a request: mostly enough for a record
_LARGEST: Final = 4 << 20
_NEAR: Final = 256 << 10  # bytes between two offsets, from which two requests are better
_GATHERED: Final = 32  # requests of `gather` in flight
_AHEAD: Final = 8  # large requests on the way while a file is read from front to back


class RemoteBytes(ByteSource):
    """A file at a URL.

    A thread that reads on where its last read ended gets larger pieces with each request, and then
    several requests are under way ahead of it.

    Raises:
        FileNotFoundError: There is no such file.
        RemoteError: The store cannot be reached, or denies access.
    """

    __slots__ = ("_closed", "_fetcher", "_file", "_own")

    def __init__(self, path: str) -> None:
        self.path = Location.of(path)
        self._closed = False
        self._connect()

    def _connect(self) -> None:
        self._fetcher = Fetcher()
        self._own = threading.local()
        try:
            (self._file,) = result(self._fetcher.open([Location.of(self.path)]))
        except BaseException:
            self._fetcher.interrupt()
            raise

    def close(self) -> None:
        """End the requests under way; a second call has no effect."""
        self._closed = True
        self._fetcher.interrupt()

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self.close()

    @property
    def size(self) -> int:
        """Bytes in the file when it was opened."""
        return self._file.size

    def pread(self, nbytes: int, offset: int) -> bytes:
        return self._window().read(offset, min(offset + nbytes, self.size))

    def readinto(self, buffer: WriteableBuffer, offset: int) -> int:
        view = memoryview(buffer).cast("B")
        data = self.pread(len(view), offset)
        view[: len(data)] = data
        return len(data)

    def gather(self, offsets: npt.NDArray[np.int64], nbytes: int) -> npt.NDArray[np.uint8]:
        self._window()  # connects again after a fork
        found = np.zeros((len(offsets), nbytes), np.uint8)
        asked: deque[tuple[slice, Future[bytes]]] = deque()

        def take() -> None:
            rows, future = asked.popleft()
            data = np.frombuffer(result(future) + bytes(nbytes), np.uint8)
            found[rows] = sliding_window_view(data, nbytes)[offsets[rows] - offsets[rows.start]]

        for first, last in _neighbours(offsets):
            start, stop = int(offsets[first]), min(int(offsets[last - 1]) + nbytes, self.size)
            asked.append((slice(first, last), self._fetcher.bytes_of(self._file, start, stop)))
            if len(asked) > _GATHERED:
                take()
        while asked:
            take()
        return found

    def _window(self) -> _Window:
        """The window of the calling thread.

        Raises:
            PipelineClosedError: The file was closed.
        """
        if self._closed:
            raise PipelineClosedError(f"{self.path}: this file was closed, and is read no more")
        if not self._fetcher.usable:  # in a forked child
            self._connect()
        window: _Window | None = getattr(self._own, "window", None)
        if window is None:
            window = self._own.window = _Window(self._fetcher, self._file)
        return window


class _Window:
    """Neighbouring pieces of a file that one thread reads on in, some of them still to come."""

    def __init__(self, fetcher: Fetcher, file: RemoteFile) -> None:
        self._fetcher, self._file = fetcher, file
        self._pieces: deque[tuple[int, int, Future[bytes]]] = deque()
        self._reach = _LEAST  # bytes of the next piece

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`, at most to the end of the file."""
        if start >= stop:
            return b""
        pieces = self._pieces
        if not pieces or not pieces[0][0] <= start <= pieces[-1][1]:
            for _, _, future in pieces:
                future.cancel()
            pieces.clear()
            self._reach = max(_LEAST, min(stop - start, _LARGEST))
            self._ask(start)
        while pieces[-1][1] < stop:
            self._reach = min(2 * self._reach, _LARGEST)
            self._ask(pieces[-1][1])
        while len(pieces) > 1 and pieces[0][1] <= start:
            pieces.popleft()
        if self._reach == _LARGEST:
            while len(pieces) <= _AHEAD and pieces[-1][1] < self._file.size:
                self._ask(pieces[-1][1])
        parts = []
        for begin, end, future in pieces:
            if begin >= stop:
                break
            parts.append(result(future)[max(start - begin, 0) : min(stop, end) - begin])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _ask(self, start: int) -> None:
        stop = min(start + self._reach, self._file.size)
        self._pieces.append((start, stop, self._fetcher.bytes_of(self._file, start, stop)))


def _neighbours(offsets: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of neighbouring offsets, as (first, stop) indices, each read by one request."""
    breaks = np.flatnonzero(np.diff(offsets) > _NEAR) + 1
    for first, last in pairwise([0, *breaks.tolist(), len(offsets)]):
        begin = first
        while begin < last:
            reach = np.searchsorted(offsets[begin:last], offsets[begin] + _LARGEST, "right")
            yield begin, begin + int(reach)
            begin += int(reach)
