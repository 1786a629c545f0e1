"""Stretches of files into memory: from disk at once, from URLs ahead of time."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.format.recordio import RecordFile
from gpuio.kernels.records import SPAN, read_spans
from gpuio.location import Location, is_url

Spans = npt.NDArray[np.void]

_READERS: Final = 8  # reads in flight at once, when the records of a batch are scattered


class LocalFiles:
    """Files on disk, open for reading spans of them.

    Args:
        paths: In the order of their numbers.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._files: dict[int, RecordFile] = {}
        self._numbers = np.full(len(paths), -1)  # descriptors
        self._opened = ExitStack()

    def open(self) -> None:
        """Open them; to be called by the thread that reads.

        Raises:
            FileNotFoundError: One is missing.
        """
        for number, path in enumerate(self._paths):
            if not is_url(path):
                file = self._files[number] = self._opened.enter_context(RecordFile(path))
                self._numbers[number] = file.fileno()

    def begin(self, spans: Spans) -> Any:
        """Read what can be read at once, and ask for the rest; what `finish` takes.

        Args:
            spans: (M,) SPAN, where "fd" is the number of the file; "got" is filled in.
        """
        table = spans.copy()
        table["fd"] = self._numbers[spans["fd"]]
        if hasattr(os, "pread"):
            _read(table)
            spans["got"] = table["got"]
            return
        for span in spans:
            memory = (ctypes.c_uint8 * int(span["nbytes"])).from_address(int(span["dst"]))
            span["got"] = self._files[int(span["fd"])].readinto(memory, int(span["offset"]))

    def finish(self, asked: Any) -> None:
        """Wait until what was asked for is there."""

    def interrupt(self) -> None:
        """Let whoever waits for files at URLs go; memory is not written to any more."""

    def close(self) -> None:
        """Close all files."""
        self._opened.close()


class RemoteFiles(LocalFiles):
    """The same for files some or all of which are at URLs.

    Args:
        paths: In the order of their numbers.

    Raises:
        RemoteError: fsspec is not installed.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        from gpuio.remote.fetch import Fetcher

        super().__init__(paths)
        self._fetcher = Fetcher()
        self._sources: dict[int, Any] = {}

    def open(self) -> None:
        """Open them, those at URLs all at once.

        Raises:
            FileNotFoundError: One is missing.
            RemoteError: A store cannot be reached, or does not let us in.
        """
        from gpuio.remote.fetch import result

        super().open()
        far = {n: Location.of(path) for n, path in enumerate(self._paths) if is_url(path)}
        sources = result(self._fetcher.open(list(far.values())))
        self._sources = dict(zip(far, sources, strict=True))

    def begin(self, spans: Spans) -> Any:
        local = np.isin(spans["fd"], list(self._files))
        near = spans[local]
        super().begin(near)
        spans["got"][local] = near["got"]
        # What cannot be had from a URL is an error of its own.
        spans["got"][~local] = spans["nbytes"][~local]
        far = np.flatnonzero(~local)
        wanted = []
        for place in far[~self._from_copies(spans[far])].tolist():
            number, offset, nbytes, dst, _ = spans[place].tolist()
            memory = (ctypes.c_uint8 * nbytes).from_address(dst)
            wanted.append((self._sources[number], offset, memoryview(memory).cast("B")))
        return self._fetcher.into(wanted)

    def _from_copies(self, spans: Spans) -> npt.NDArray[np.bool_]:
        """Read spans of files at URLs from their copies on disk; (M,) where that was possible."""
        done, rows, owners, segments = np.zeros(len(spans), bool), [], [], []
        for place, (number, offset, nbytes, dst, _) in enumerate(spans.tolist()):
            copy = self._sources[number].copy
            parts = None if copy is None else copy.spans(offset, offset + nbytes)
            for segment, at, length in parts or ():
                done[place] = True
                segments.append(segment)  # stays open until it is read
                rows.append((segment.fd, at, length, dst, 0))
                owners.append(place)
                dst += length
        if rows:
            table = np.array(rows, SPAN)
            _read(table)
            done[np.array(owners)[table["got"] != table["nbytes"]]] = False
        return done

    def finish(self, asked: Any) -> None:
        """Wait until what was asked for is there.

        Raises:
            RemoteError: It cannot be had.
            PipelineClosedError: `interrupt` was called, now or while waiting.
        """
        from gpuio.remote.fetch import result

        result(asked)

    def interrupt(self) -> None:
        self._fetcher.close()

    def close(self) -> None:
        self._fetcher.close()
        super().close()


def files_of(paths: Sequence[str]) -> LocalFiles:
    """The files at `paths`, not open yet."""
    return RemoteFiles(paths) if any(map(is_url, paths)) else LocalFiles(paths)


def _read(table: Spans) -> None:
    """Read all rows of a SPAN table."""
    pread = ctypes.cast(ctypes.CDLL(None).pread, ctypes.c_void_p).value or 0
    read_spans(len(table), _READERS, table.ctypes.data, pread)
