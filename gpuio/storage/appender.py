"""Files that grow by whole pieces: a piece that cannot be written leaves no trace."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import ClassVar

from gpuio.errors import FormatError


class Appender(ABC):
    """A file that is written piece by piece.

    Attributes:
        position: Where the next piece will be, in bytes.
        appears_when_closed: Whether others see the file only once it was closed.
    """

    position: int
    appears_when_closed: ClassVar[bool] = False

    @abstractmethod
    def append(self, data: bytes) -> int:
        """Write a piece as a whole, or raise and write nothing.

        Returns:
            Where the piece is in the file, in bytes.
        """

    @abstractmethod
    def cut(self, position: int) -> None:
        """Drop the pieces from `position` on."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file; a second call has no effect.

        Raises:
            RemoteError: The file is at a URL and cannot be completed.
        """

    def remove_old(self) -> None:  # noqa: B027  opening a file on disk has emptied it
        """Remove an older file of this name, which this one will replace."""

    def abandon(self) -> None:  # noqa: B027  what was written to disk stays
        """Leave a file that appears when closed out: it is never to appear."""


class LocalAppender(Appender):
    """A file on disk, unbuffered, so that a forked child has nothing to write a second time.

    Args:
        path: The file.
        position: Its size, to go on with it; None empties it.

    Raises:
        FormatError: The file's size is not `position`.
    """

    def __init__(self, path: str, position: int | None = None) -> None:
        mode = "wb" if position is None else "r+b"
        self._file = open(path, mode, buffering=0)  # noqa: SIM115, PTH123  closed by close()
        self.position = self._file.seek(0, os.SEEK_END)
        if position is not None and position != self.position:
            self._file.close()
            reason = f"{position} bytes when its writer was pickled, now {self.position}"
            raise FormatError(f"{path}: {reason}; it will not be overwritten")

    def append(self, data: bytes) -> int:
        start = self.position
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except BaseException as error:
            self.cut(start)
            if isinstance(error, OSError):  # of a full disk, say, which names no file
                raise OSError(error.errno, error.strerror, self._file.name) from error
            raise
        self.position = start + len(data)
        return start

    def cut(self, position: int) -> None:
        self._file.truncate(position)
        self.position = self._file.seek(position)

    def close(self) -> None:
        self._file.close()
