"""A copy on disk of what was read from URLs: filled in any order, shared by processes, bounded.

    cache_dir / file, named by a digest of user, URL, size and version / segment number
    segment: data, at the places it has in the file | uint32 for each block: CRC-32, or 0

A segment is sparse: it takes disk space for the blocks that are there. A block is there when its
checksum is, and is used once a process has found that the two agree: so a block that a process that
was killed, or a machine that failed, left half written is never served. A block has one value only,
since a file that changes gets another name; so processes that write the same block at the same time
do no harm, and none waits for another. Only a process that removes segments locks the folder. A
segment that was removed stays whole for those who have it open.
"""

from __future__ import annotations

import asyncio
import os
import threading
import warnings
from collections import OrderedDict
from concurrent.futures import Executor
from contextlib import suppress
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from gpuio.storage.location import Location
from gpuio.storage.remote import segments
from gpuio.storage.remote.remote_file import RemoteFile
from gpuio.storage.remote.segments import BLOCK, CopyFolder, Segment, SizeLimit

_OPEN: Final = 128  # segments of a file that stay open


def cached(file: RemoteFile, executor: Executor) -> RemoteFile:
    """`file`, read through a copy on disk where its URL asks for one."""
    if not file.url.storage.cache_dir or not hasattr(os, "pread"):
        return file
    if not file.version:
        reason = (
            "the store tells no ETag and no time, so an old copy could not be told from a new file"
        )
        warnings.warn(f"{file.url}: nothing is kept in cache_dir: {reason}", stacklevel=2)
        return file
    return CachedFile(file, executor)


class CachedFile(RemoteFile):
    """A file at a URL, read from its copy as far as that goes.

    Args:
        file: The file.
        executor: Reads and writes the copy.
    """

    def __init__(self, file: RemoteFile, executor: Executor) -> None:
        self.url, self.size, self.version = file.url, file.size, file.version
        self._file, self._executor = file, executor
        self._copy = self.copy = Copy(file.url, file.size, file.version)

    async def read(self, start: int, stop: int) -> bytes:
        loop = asyncio.get_running_loop()
        base = start // BLOCK * BLOCK
        end = min(-(-stop // BLOCK) * BLOCK, self.size)
        data = bytearray(end - base)
        present = await loop.run_in_executor(self._executor, self._copy.read, base, data)

        async def fetch(first: int, last: int) -> None:
            at, to = base + first * BLOCK, min(base + last * BLOCK, end)
            data[at - base : to - base] = await self._file.read(at, to)

        edges = np.flatnonzero(np.diff(np.concatenate(([True], present, [True])).astype(np.int8)))
        runs = edges.reshape(-1, 2).tolist()
        await asyncio.gather(*(fetch(first, last) for first, last in runs))
        for first, last in runs:
            part = bytes(data[first * BLOCK : last * BLOCK])
            await loop.run_in_executor(self._executor, self._copy.write, base + first * BLOCK, part)
        return bytes(memoryview(data)[start - base : stop - base])


class Copy:
    """The blocks of one file that lie on disk.

    Any thread may call any method. None raises when the disk fails: a block that cannot be read
    counts as missing, and one that cannot be written is left out, with one warning.

    Args:
        url: The URL of the file, which knows the folder of the copies and their limit.
        size: Bytes in the file.
        version: Its version, as `RemoteFile` has it.
    """

    def __init__(self, url: Location, size: int, version: str) -> None:
        root = Path(url.storage.cache_dir)
        of = f"{os.geteuid()}\0{url}\0{size}\0{version}"  # no user believes the copy of another
        name = blake2b(of.encode(), digest_size=16).hexdigest()
        self.folder = root / name
        self.size = size
        self._limit = SizeLimit(root, url.storage.cache_size)
        self._lock = threading.Lock()
        self._segments: OrderedDict[int, Segment] = OrderedDict()
        self._failed = False
        self._folder: CopyFolder | None = None
        try:
            root.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
            self._folder = CopyFolder(self.folder)
            self._folder.note(f"{url}\n{size}\n{version}\n")
        except OSError as error:
            self._fail(error)
        self._limit.check()

    def spans(self, start: int, stop: int) -> list[tuple[Segment, int, int]] | None:
        """Segments, offsets in them and byte counts that hold a range; None if a block is missing.

        A segment stays open as long as it is referred to.
        """
        found = []
        for at, end in _cut(start, stop, segments.SEGMENT):
            segment, present = self._check(at, end)
            if segment is None or not present.all():
                return None
            found.append((segment, at % segments.SEGMENT, end - at))
        return found

    def read(self, start: int, into: bytearray) -> npt.NDArray[np.bool_]:
        """Fill `into` from `start`, where a block begins; (n,) which of its blocks are there."""
        present = np.zeros(-(-len(into) // BLOCK), bool)
        for at, end in _cut(start, start + len(into), segments.SEGMENT):
            segment, valid = self._check(at, end)
            view, place = memoryview(into)[at - start : end - start], (at - start) // BLOCK
            if segment and valid.any() and segment.read(at % segments.SEGMENT, view):
                present[place : place + len(valid)] = valid
        return present

    def _check(self, start: int, stop: int) -> tuple[Segment | None, npt.NDArray[np.bool_]]:
        """The segment that holds a range, if it is there; and which of the blocks in it are."""
        segment, first = self._segment(start // segments.SEGMENT), start % segments.SEGMENT
        blocks = slice(first // BLOCK, -(-(first + stop - start) // BLOCK))
        if segment is None:
            return None, np.zeros(blocks.stop - blocks.start, bool)
        return segment, segment.check(blocks)

    def write(self, start: int, data: bytes) -> None:
        """Keep `data`: whole blocks from `start` on, or up to the end of the file."""
        if self._failed:
            return
        try:
            for at, end in _cut(start, start + len(data), segments.SEGMENT):
                segment = self._segment(at // segments.SEGMENT, make=True)
                if segment is not None:
                    segment.write(at % segments.SEGMENT, memoryview(data)[at - start : end - start])
            self._limit.count(len(data))
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._failed = True
        warnings.warn(f"{self.folder}: nothing more is kept: {error}", stacklevel=2)

    def _segment(self, number: int, *, make: bool = False) -> Segment | None:
        """A segment, open; None if it is not there.

        Raises:
            OSError: It cannot be made.
        """
        with self._lock:
            segment = self._segments.get(number)
            if segment is None or segment.removed():
                self._segments.pop(number, None)
                segment = self._open_segment(number, make=make)
                if segment is None:
                    return None
                self._segments[number] = segment
                if len(self._segments) > _OPEN:
                    self._segments.popitem(last=False)
            self._segments.move_to_end(number)
            segment.touch()
            return segment

    def _open_segment(self, number: int, *, make: bool) -> Segment | None:
        if self._folder is None:
            return None
        try:
            descriptor = self._folder.open(str(number), make=make)
        except OSError:
            if make:
                raise
            return None
        size = min(segments.SEGMENT, self.size - number * segments.SEGMENT)
        return Segment(descriptor, size, crc32(f"{self.folder.name}/{number}".encode()))


def _cut(start: int, stop: int, length: int) -> list[tuple[int, int]]:
    """A range in pieces that do not cross a multiple of `length`."""
    edges = [start, *range((start // length + 1) * length, stop, length), stop]
    return list(pairwise(edges))
