"""Spans of files into memory: those of files on disk at once, those of URLs ahead of time."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import PipelineClosedError
from gpuio.kernels.records import SPAN, read_spans
from gpuio.storage.byte_source import LocalBytes
from gpuio.storage.identity import FileIdentity
from gpuio.storage.location import Location
from gpuio.storage.paths import is_url

if TYPE_CHECKING:
    from gpuio.storage.remote.remote_file import RemoteFile

Spans = npt.NDArray[np.void]
PendingSpans = Future[list[None]] | None
"""Reads from URLs that were begun; None where all spans are there already."""

_READERS: Final = 8  # reads in flight at once, when the records of a batch are scattered


class LocalFiles:
    """Files on disk, open for reading spans of them.

    A read that is under way when another thread closes them is completed; later ones raise.

    Args:
        paths: The files, in the order of their numbers.
        identities: The identity of each file, None for one at a URL.
    """

    def __init__(self, paths: Sequence[str], identities: Sequence[FileIdentity | None]) -> None:
        self._paths, self._identities = paths, identities
        self._files: dict[int, LocalBytes] = {}
        self._numbers = np.full(len(paths), -1)  # descriptors, by number of the file
        self._opened = ExitStack()
        self._lock = threading.Lock()  # held during a read, and by `close`
        self._closed = False

    def open(self) -> None:
        """Open them; to be called by the thread that reads.

        Raises:
            FileNotFoundError: One is missing.
            FormatError: One was replaced, or written to.
        """
        for number, path in enumerate(self._paths):
            if not is_url(path):
                file = self._files[number] = self._opened.enter_context(LocalBytes(path))
                self._numbers[number] = file.fileno()
                self._check_identity(number)

    def begin(self, spans: Spans) -> PendingSpans:
        """Read the spans of files on disk, and begin to read the others; `finish` takes the result.

        Args:
            spans: (M,) SPAN, where "fd" is the number of the file; "got" and "errno" are filled
                in.

        Raises:
            FormatError: A file was written to since it was opened first.
            PipelineClosedError: The files were closed.
        """
        with self._lock:
            if self._closed:
                raise PipelineClosedError("no more reads: the pipeline was closed")
            if hasattr(os, "pread"):
                table = spans.copy()
                table["fd"] = self._numbers[spans["fd"]]
                _read(table)
                spans["got"], spans["errno"] = table["got"], table["errno"]
            else:
                self._read_one_by_one(spans)
            for number in set(spans["fd"].tolist()):
                self._check_identity(number, again=True)
            return None

    def _read_one_by_one(self, spans: Spans) -> None:
        for span in spans:
            memory = (ctypes.c_uint8 * int(span["nbytes"])).from_address(int(span["dst"]))
            try:
                span["got"] = self._files[int(span["fd"])].readinto(memory, int(span["offset"]))
            except OSError as error:
                span["errno"] = error.errno or 0

    def _check_identity(self, number: int, *, again: bool = False) -> None:
        self._files[number].check_identity(self._identities[number], again=again)

    def finish(self, asked: PendingSpans) -> None:
        """Wait until the spans of a call of `begin` are there."""

    def interrupt(self) -> None:
        """End the wait for files at URLs."""

    def close(self) -> None:
        """Close all files, once the read under way is done."""
        with self._lock:
            self._closed = True
            self._opened.close()


class RemoteFiles(LocalFiles):
    """Files some or all of which are at URLs.

    Raises:
        RemoteError: fsspec is not installed.
    """

    def __init__(self, paths: Sequence[str], identities: Sequence[FileIdentity | None]) -> None:
        from gpuio.storage.remote.fetch import Fetcher

        super().__init__(paths, identities)
        self._fetcher = Fetcher()
        self._remote: dict[int, RemoteFile] = {}

    def open(self) -> None:
        """Open them, those at URLs all at once.

        Raises:
            FileNotFoundError: One is missing.
            RemoteError: A store cannot be reached, or denies access.
        """
        from gpuio.storage.remote.fetch import result

        super().open()
        far = {n: Location.of(path) for n, path in enumerate(self._paths) if is_url(path)}
        files = result(self._fetcher.open(list(far.values())))
        self._remote = dict(zip(far, files, strict=True))

    def begin(self, spans: Spans) -> PendingSpans:
        local = np.isin(spans["fd"], list(self._files))
        near = spans[local]
        super().begin(near)
        spans["got"][local], spans["errno"][local] = near["got"], near["errno"]
        # A read from a URL that fails is an exception, and no errno of a span.
        spans["got"][~local] = spans["nbytes"][~local]
        far = np.flatnonzero(~local)
        wanted = []
        for place in far[~self._from_copies(spans[far])].tolist():
            number, offset, nbytes, dst = spans[place].tolist()[:4]
            memory = (ctypes.c_uint8 * nbytes).from_address(dst)
            wanted.append((self._remote[number], offset, memoryview(memory).cast("B")))
        return self._fetcher.into(wanted)

    def _from_copies(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """(M,) which spans of files at URLs were read from copies of these files on disk."""
        done, rows, owners, segments = np.zeros(len(spans), bool), [], [], []
        for place, (number, offset, nbytes, dst, *_) in enumerate(spans.tolist()):
            copy = self._remote[number].copy
            parts = None if copy is None else copy.spans(offset, offset + nbytes)
            for segment, at, length in parts or ():
                done[place] = True
                segments.append(segment)  # stays open until it is read
                rows.append((segment.fd, at, length, dst, 0, 0))
                owners.append(place)
                dst += length
        if rows:
            table = np.array(rows, SPAN)
            _read(table)
            done[np.array(owners)[table["got"] != table["nbytes"]]] = False
        return done

    def finish(self, asked: PendingSpans) -> None:
        """Wait until the spans of a call of `begin` are there.

        Raises:
            RemoteError: A file at a URL could not be read.
            PipelineClosedError: `interrupt` was called, now or while waiting.
        """
        from gpuio.storage.remote.fetch import result

        if asked is not None:
            result(asked)

    def interrupt(self) -> None:
        self._fetcher.interrupt()

    def close(self) -> None:
        self._fetcher.close()
        super().close()


def _read(table: Spans) -> None:
    """Read all rows of a SPAN table."""
    read_spans(len(table), _READERS, table.ctypes.data, *_c_functions())


@cache
def _c_functions() -> tuple[int, int]:
    """The addresses of `pread`, and of what returns the address of a thread's errno."""
    process = ctypes.CDLL(None)
    errno = process.__error if sys.platform == "darwin" else process.__errno_location
    first, second = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in (process.pread, errno))
    return first, second
