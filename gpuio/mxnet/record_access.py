"""A .rec that is open for reading or writing, shared by threads, forked and pickled."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, Literal, Self, TypeVar

from gpuio.core.guard import SharedLock
from gpuio.formats.recordio import RecordFile, frame
from gpuio.storage.appender import Appender, LocalAppender
from gpuio.storage.opening import open_appender
from gpuio.storage.paths import absolute, check_path

T = TypeVar("T")
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


class RecordAccess:
    """Base of `MXRecordIO`: opening and closing, processes, and pickling.

    `_position_lock` is for methods that move on, such as `read` and `write`; it is taken before
    `_open_lock`, which is for what is open.
    """

    is_open = False
    writable = False
    pid: int | None = None
    _idx: str | None = None  # absolute path of the .idx
    _reader: RecordFile | None = None
    _writer: RecordWriter | None = None

    def __init__(self, uri: str | os.PathLike[str], flag: Literal["r", "w"]) -> None:
        self._position_lock, self._open_lock = SharedLock(), SharedLock()
        self.uri = path_text("uri", uri)
        self._rec = absolute(self.uri)  # the same file after a chdir
        self.flag = flag
        self._position = 0  # where read() goes on
        self.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None and self._writer is not None:
            self._writer.abandon()
        self.close()

    def __del__(self) -> None:
        if self._writer is not None and self._writer.appears_when_closed:
            reason = "its writer was not closed, so it does not appear"
            warnings.warn(f"{self.uri}: {reason}", RuntimeWarning, stacklevel=2)
            self._writer.abandon()
        if self._reader is not None or self._writer is not None:
            self.close()

    def __repr__(self) -> str:
        state = "open" if self.is_open else "closed"
        return f"<{type(self).__name__} {self.uri!r}, flag {self.flag!r}, {state}>"

    def open(self) -> None:
        """Open the file, at its first record; a writer empties it."""
        if self.flag not in ("r", "w"):
            raise ValueError(f"Invalid flag {self.flag}: it must be 'r' or 'w'")
        with self._position_lock, self._open_lock:
            self.close()
            self.writable = self.flag == "w"
            if self.writable:
                self._writer = RecordWriter(self._rec, self._idx)
            else:
                self._reader = RecordFile(self._rec)
            self._position = 0
            self.pid = os.getpid()
            self.is_open = True

    def close(self) -> None:
        """Close the file; a second call has no effect.

        A read under way in another thread is completed, or raises as one after `close` does.
        """
        with self._position_lock if self.writable else nullcontext():  # a write is completed
            with self._open_lock:
                reader, writer = self._reader, self._writer
                self._reader = self._writer = None
                self.is_open = False
                self.pid = None
            if reader is not None:
                reader.close()
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        """Go back to the first record. This empties the file of a writer, as in MXNet."""
        self.open()

    def __getstate__(self) -> dict[str, Any]:
        with self._position_lock, self._open_lock:
            state = self.__dict__.copy()
            if self._writer is not None:
                if self._writer.appears_when_closed:
                    raise TypeError(f"{self.uri}: a file half written to a URL cannot be pickled")
                state["_positions"] = self._writer.positions
                self.close()  # two writers of one file would overwrite each other
        for name in ("_reader", "_writer", "_position_lock", "_open_lock"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        positions = state.pop("_positions", None)
        was_open = state.pop("is_open")
        self.__dict__.update(state, pid=None)
        self._position_lock, self._open_lock = SharedLock(), SharedLock()
        if was_open and positions is None:
            self.open()
        elif was_open:
            self._writer = RecordWriter(self._rec, self._idx, positions)
            self.is_open, self.pid = True, os.getpid()

    def _with_reader(self, read: Callable[[RecordFile], T]) -> T:
        """What `read` returns for the open file, or for the new one after a concurrent `reset`."""
        while True:
            reader = self._checked_reader()
            try:
                return read(reader)
            except Exception:
                if self._reader is reader:
                    raise

    def _checked_reader(self) -> RecordFile:
        """The open file, also in a forked child: reads carry their offset, so they may share it."""
        if self.writable:
            raise AssertionError(f"{self.uri} is open for writing")  # as in mxnet
        with self._open_lock:
            if self._reader is None:
                raise self._closed_error()
            if self.pid != os.getpid():
                self._position, self.pid = 0, os.getpid()
            return self._reader

    def _checked_writer(self) -> RecordWriter:
        if not self.writable:
            raise AssertionError(f"{self.uri} is open for reading")  # as in mxnet
        self._check_process()
        if self._writer is None:
            raise self._closed_error()
        return self._writer

    def _check_process(self) -> None:
        """Raise RuntimeError if the file was opened by another process."""
        if self.is_open and self.pid != os.getpid():
            reason = "Forbidden operation in multiple processes"
            raise RuntimeError(f"{reason}: {self.uri} was opened by process {self.pid}")

    def _closed_error(self) -> RuntimeError:
        reason = "Forbidden operation in multiple processes, or after close()"
        return RuntimeError(f"{reason}: {self.uri} was closed; open() or reset() opens it again")


def path_text(name: str, given: Any) -> str:
    """The text of a path, which may be bytes.

    Raises:
        TypeError: `given` is not a path.
        ValueError: `given` is empty.
    """
    path = os.fsdecode(given) if isinstance(given, bytes) else given
    check_path(name, path)
    return os.fsdecode(path)


def _open(path: str, position: int | None) -> Appender:
    return open_appender(path) if position is None else LocalAppender(path, position)
