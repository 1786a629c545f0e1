"""A .rec under way to disk or to a URL, with its .idx."""

from __future__ import annotations

from typing import Any

from gpuio.formats.recordio import frame
from gpuio.storage.appender import Appender, LocalAppender
from gpuio.storage.opening import open_appender

Positions = tuple[int | None, int | None]
"""The sizes of a .rec and of its .idx, in bytes; None without an .idx."""


class RecordWriter:
    """Writes records to a .rec, and their lines to its .idx, if there is one.

    Args:
        rec: Path or URL of the .rec.
        idx: Path or URL of the .idx, or None.
        positions: The `positions` of the writer to go on from; without them, files are emptied.

    Attributes:
        rec: The .rec.
        idx: The .idx, or None.

    Raises:
        FormatError: A file has changed since its writer had these `positions`.
        OSError: A file cannot be written.
    """

    def __init__(self, rec: str, idx: str | None, positions: Positions = (None, None)) -> None:
        self.rec = _open(rec, positions[0])
        self.idx: Appender | None = None
        if idx is not None:
            try:
                self.idx = _open(idx, positions[1])
            except BaseException:
                self.abandon()
                self.close()
                raise

    @property
    def positions(self) -> Positions:
        """Where the files end."""
        return self.rec.position, None if self.idx is None else self.idx.position

    @property
    def appears_when_closed(self) -> bool:
        """Whether others see the files only once they were closed."""
        return self.rec.appears_when_closed

    def write(self, buf: bytes) -> int:
        """Add a record; where it is in the .rec, in bytes.

        Raises:
            TypeError: `buf` is not bytes.
            OSError: The disk is full, for example; the record has left no trace.
        """
        if not isinstance(buf, (bytes, bytearray, memoryview)):
            raise TypeError(f"buf must be bytes, got {type(buf).__name__}")
        return self.rec.append(frame(buf))

    def write_keyed(self, key: Any, buf: bytes) -> int:
        """As `write`, with a line for `key` in the .idx: both are written, or neither is."""
        assert self.idx is not None
        offset = self.write(buf)
        try:
            self.idx.append(f"{key}\t{offset}\n".encode())
        except BaseException:
            self.rec.cut(offset)
            raise
        return offset

    def abandon(self) -> None:
        """Keep unfinished files at URLs from appearing."""
        self.rec.abandon()
        if self.idx is not None:
            self.idx.abandon()

    def close(self) -> None:
        """Complete the .rec and then the .idx, which does not appear if the .rec cannot be."""
        if self.idx is None:
            self.rec.close()
            return
        try:
            self.idx.remove_old()
            self.rec.close()
        except BaseException:
            self.idx.abandon()
            raise
        finally:
            self.idx.close()


def _open(path: str, position: int | None) -> Appender:
    return open_appender(path) if position is None else LocalAppender(path, position)
