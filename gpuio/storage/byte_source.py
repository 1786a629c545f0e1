"""`ByteSource`: a file that is open for reading at any offset; here, one on disk."""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from io import FileIO
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from gpuio.errors import FormatError, PipelineClosedError
from gpuio.storage.plain_file import open_plain

if TYPE_CHECKING:
    from typing import Self

    from _typeshed import WriteableBuffer

    from gpuio.storage.identity import FileIdentity

_STRETCH: Final = 1 << 20  # bytes of a file that `gather` reads at once
_DENSE: Final = 16 << 10  # bytes between two offsets, up to which all that lies there is read


class ByteSource(ABC):
    """A file that any number of threads may read at once.

    A read raises an OSError that names the file if the bytes cannot be read, and a
    PipelineClosedError if the file was closed. Where another thread closes it meanwhile, a read is
    completed or raises.

    Attributes:
        path: The path or URL, as given.
    """

    __slots__ = ("path",)

    path: str

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes in the file."""

    @abstractmethod
    def pread(self, nbytes: int, offset: int) -> bytes:
        """`nbytes` bytes from `offset`; fewer only where the file ends."""

    @abstractmethod
    def readinto(self, buffer: WriteableBuffer, offset: int) -> int:
        """Fill `buffer` from `offset`; the number of bytes read, fewer where the file ends."""

    @abstractmethod
    def gather(self, offsets: npt.NDArray[np.int64], nbytes: int) -> npt.NDArray[np.uint8]:
        """(N, nbytes) uint8, the bytes at each of (N,) ascending offsets; zeros past the end.

        Raises:
            FormatError: The file became shorter meanwhile.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the file; a second call has no effect."""

    def check_identity(self, identity: FileIdentity | None, *, again: bool = False) -> None:  # noqa: B027  nothing to check at URLs
        """Refuse a file on disk that is not the one that was opened first.

        Files at URLs have no identity: each answer of a store tells the version of its file.

        Args:
            identity: The file as it was opened first; None checks nothing.
            again: This open file passed the check before, so only its status is compared.

        Raises:
            FormatError: The file was replaced, or written to.
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _OpenFile(FileIO):
    """A file that is closed once nothing refers to it.

    A read refers to it until it is done. So the number of a descriptor is never given to another
    file while a read uses it.
    """

    def __del__(self) -> None:
        self.close()


class LocalBytes(ByteSource):
    """A file on disk; it may grow while it is open.

    Raises:
        OSError: The file cannot be opened, or is a folder, pipe or device.
    """

    __slots__ = ("_lock", "_open")

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._open: _OpenFile | None = _OpenFile(open_plain(self.path, follow=True))
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file, once the reads under way are done; a second call has no effect."""
        self._open = None

    def _opened(self) -> _OpenFile:
        opened = self._open
        if opened is None:
            raise PipelineClosedError(f"{self.path}: this file was closed, and is read no more")
        return opened

    def fileno(self) -> int:
        """The file descriptor, which may be another file's after `close`."""
        return self._opened().fileno()

    @property
    def size(self) -> int:
        """Bytes in the file now."""
        opened = self._opened()
        return os.fstat(opened.fileno()).st_size

    def check_identity(self, identity: FileIdentity | None, *, again: bool = False) -> None:
        if identity is not None:
            identity.check(self, again=again)

    def pread(self, nbytes: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            opened = self._opened()
            try:
                data = os.pread(opened.fileno(), nbytes, offset)
            except OSError as error:
                error.filename = self.path
                raise
            if len(data) == nbytes or not data:
                return data
        # No pread (Windows), or it stopped short: Linux reads at most 2 GiB at once, and network
        # file systems less.
        buffer = bytearray(nbytes)
        return bytes(memoryview(buffer)[: self.readinto(buffer, offset)])

    def readinto(self, buffer: WriteableBuffer, offset: int) -> int:
        opened, view = self._opened(), memoryview(buffer).cast("B")
        done = 0
        while done < len(view):
            try:
                got = self._readinto(opened, view[done:], offset + done)
            except OSError as error:
                error.filename = self.path
                raise
            if not got:
                break
            done += got
        return done

    def _readinto(self, opened: _OpenFile, view: memoryview, offset: int) -> int:
        """Read some of the bytes at `offset`; how many, 0 where the file ends."""
        if hasattr(os, "preadv"):
            return os.preadv(opened.fileno(), [view], offset)
        with self._lock:
            opened.seek(offset)
            return opened.readinto(view) or 0

    def gather(self, offsets: npt.NDArray[np.int64], nbytes: int) -> npt.NDArray[np.uint8]:
        # A mapping would be simpler, but ends this process where another one cuts the file.
        found, size, begin = np.zeros((len(offsets), nbytes), np.uint8), self.size, 0
        buffer = np.empty(_STRETCH + nbytes, np.uint8)
        while begin < len(offsets):
            start = int(offsets[begin])
            end = int(np.searchsorted(offsets, start + _STRETCH, "right"))
            places = offsets[begin:end] - start
            if places[-1] <= _DENSE * len(places):
                reach = int(places[-1]) + nbytes
                buffer[self.readinto(buffer[:reach].data, start) : reach] = 0
                found[begin:end] = sliding_window_view(buffer, nbytes)[places]
            else:
                rows = zip(found[begin:end], offsets[begin:end].tolist(), strict=True)
                for row, offset in rows:
                    self.readinto(row.data, offset)
            begin = end
        if (now := self.size) < size:
            reason = f"it became shorter while it was read: it had {size} bytes, and has {now}"
            raise FormatError(f"{self.path}: {reason}; read it once it is whole")
        return found
