"""A copy on disk of what was read from URLs: filled in any order, shared by processes, bounded.

    cache_dir / file, named by a digest of user, URL, size and version / segment number
    segment: data, at the places it has in the file | uint32 for each block: CRC-32, or 0

A segment is sparse: it takes the room of the blocks that are there. A block is there when its
checksum is, and counts after a process has found that the two agree: so what a process that was
killed, or a machine that failed, left half written is never served. A block has one value only,
since a file that changes gets another name; so processes that write the same block at the same time
do no harm, and none waits for another. Only the one that makes room locks the folder. A segment
that was removed stays whole for those who have it open.
"""

from __future__ import annotations

import asyncio
import os
import re
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from hashlib import blake2b
from io import FileIO
from itertools import pairwise
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from gpuio.storage.location import Location
from gpuio.storage.plain_file import is_trusted, open_plain
from gpuio.storage.remote.source import Source
from gpuio.storage.write_lock import try_lock

BLOCK: Final = 16 << 10  # bytes: little more than a record of a face
SEGMENT: Final = 64 << 20  # bytes: what is removed at once
_OPEN: Final = 128  # segments that a file keeps open
_CHECKS: Final = 64  # of `cache_size`: how often a process looks whether it is exceeded
_ROOM: Final = 8  # what is made free then, also as a part of `cache_size`
_FOLDER: Final = re.compile(r"[0-9a-f]{32}")  # the name of one
_TOUCH: Final = 60  # seconds between notes that a segment is in use


def cached(source: Source, executor: Executor) -> Source:
    """`source`, with a copy on disk where its URL asks for one."""
    if not source.url.storage.cache_dir or not hasattr(os, "pread"):
        return source
    if not source.version:
        reason = (
            "the store tells no ETag and no time, so an old copy could not be told from a new file"
        )
        warnings.warn(f"{source.url}: nothing is kept in cache_dir: {reason}", stacklevel=2)
        return source
    return CachedSource(source, executor)


class CachedSource(Source):
    """A file at a URL, read from its copy where that has it.

    Args:
        source: The file.
        executor: Writes the copy.
    """

    def __init__(self, source: Source, executor: Executor) -> None:
        self.url, self.size, self.version = source.url, source.size, source.version
        self._source, self._executor = source, executor
        self.copy = Copy(source.url, source.size, source.version)

    async def read(self, start: int, stop: int) -> bytes:
        loop = asyncio.get_running_loop()
        base = start // BLOCK * BLOCK
        end = min(-(-stop // BLOCK) * BLOCK, self.size)
        data = bytearray(end - base)
        there = await loop.run_in_executor(self._executor, self.copy.read, base, data)

        async def fetch(first: int, last: int) -> None:
            at, to = base + first * BLOCK, min(base + last * BLOCK, end)
            data[at - base : to - base] = await self._source.read(at, to)

        edges = np.flatnonzero(np.diff(np.concatenate(([True], there, [True])).astype(np.int8)))
        runs = edges.reshape(-1, 2).tolist()
        await asyncio.gather(*(fetch(first, last) for first, last in runs))
        for first, last in runs:
            part = bytes(data[first * BLOCK : last * BLOCK])
            await loop.run_in_executor(self._executor, self.copy.write, base + first * BLOCK, part)
        return bytes(memoryview(data)[start - base : stop - base])

    async def _ask(self, start: int, stop: int) -> bytes:
        return await self._source._ask(start, stop)


class Copy:
    """What lies on disk of one file.

    Methods may be called by any thread. None raises when the disk fails: what cannot be read is
    not there, and what cannot be written is left out, with one warning.

    Args:
        url: Of the file, with the folder and how much it may hold.
        size: Of the file, in bytes.
        version: What changes with it.
    """

    def __init__(self, url: Location, size: int, version: str) -> None:
        root = Path(url.storage.cache_dir)
        of = f"{os.geteuid()}\0{url}\0{size}\0{version}"  # no user believes the copy of another
        name = blake2b(of.encode(), digest_size=16).hexdigest()
        self.folder = root / name
        self.size = size
        self._bound = _Bound(root, url.storage.cache_size)
        self._lock = threading.Lock()
        self._segments: OrderedDict[int, _Segment] = OrderedDict()
        self._failed = False
        self._opened: _Folder | None = None
        try:
            root.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                self.folder.mkdir(mode=0o700)
            self._opened = _Folder(self.folder)
            self._opened.note(f"{url}\n{size}\n{version}\n")
        except OSError as error:
            self._fail(error)
        self._bound.check()

    def spans(self, start: int, stop: int) -> list[tuple[_Segment, int, int]] | None:
        """Segments, places in them and bytes that hold a range, checked; None if not all is there.

        A segment stays open as long as it is referred to.
        """
        found = []
        for at, end in _cut(start, stop, SEGMENT):
            segment, first = self._segment(at // SEGMENT), at % SEGMENT
            if segment is None:
                return None
            blocks = slice(first // BLOCK, -(-(first + end - at) // BLOCK))
            if not segment.check(blocks).all():
                return None
            found.append((segment, first, end - at))
        return found

    def read(self, start: int, into: bytearray) -> npt.NDArray[np.bool_]:
        """Fill `into` from `start`, the first byte of a block; which of its blocks are there."""
        there = np.zeros(-(-len(into) // BLOCK), bool)
        for at, end in _cut(start, start + len(into), SEGMENT):
            segment, first = self._segment(at // SEGMENT), at % SEGMENT
            if segment is not None:
                view = memoryview(into)[at - start : end - start]
                blocks = slice(first // BLOCK, -(-(first + end - at) // BLOCK))
                place = (at - start) // BLOCK
                sound = segment.check(blocks)
                if sound.any() and not segment.read(first, view):
                    sound = np.zeros(len(sound), bool)
                there[place : place + len(sound)] = sound
        return there

    def write(self, start: int, data: bytes) -> None:
        """Keep `data`: whole blocks from `start` on, or up to the end of the file."""
        if self._failed:
            return
        try:
            for at, end in _cut(start, start + len(data), SEGMENT):
                segment = self._segment(at // SEGMENT, make=True)
                if segment is not None:
                    segment.write(at % SEGMENT, memoryview(data)[at - start : end - start])
            self._bound.count(len(data))
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        self._failed = True
        warnings.warn(f"{self.folder}: nothing more is kept: {error}", stacklevel=2)

    def _segment(self, number: int, *, make: bool = False) -> _Segment | None:
        with self._lock:
            segment = self._segments.get(number)
            if segment is None or segment.removed():
                self._segments.pop(number, None)
                if self._opened is None:
                    return None
                seed = crc32(f"{self.folder.name}/{number}".encode())
                try:
                    descriptor = self._opened.open(str(number), make=make)
                    segment = _Segment(descriptor, min(SEGMENT, self.size - number * SEGMENT), seed)
                except OSError:
                    if make:
                        raise
                    return None
                self._segments[number] = segment
                if len(self._segments) > _OPEN:
                    self._segments.popitem(last=False)
            self._segments.move_to_end(number)
            segment.touch()
            return segment


class _Folder:
    """The folder of one file's copy, open as long as it is referred to, so that it stays the same.

    Raises:
        OSError: It is no folder, or others may write to it.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not is_trusted(os.fstat(self._fd)):
            raise PermissionError(f"{path}: others may write to it; give another cache_dir")

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def note(self, text: str) -> None:
        """Write down whose copy it is, once."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with suppress(FileExistsError), open("source", "w", opener=self._opener(flags)) as file:
            file.write(text)

    def _opener(self, flags: int) -> Callable[[str, int], int]:
        return lambda name, _: open_plain(name, flags, mode=0o600, dir_fd=self._fd)

    def open(self, name: str, *, make: bool) -> int:
        """The descriptor of a segment, which is made if it is not there and is to be.

        Raises:
            OSError: It is not there, no plain file, or others may write to it.
        """
        flags = os.O_RDWR | (os.O_CREAT if make else 0)
        descriptor = open_plain(name, flags, mode=0o600, dir_fd=self._fd)
        if not is_trusted(os.fstat(descriptor)):
            os.close(descriptor)
            raise PermissionError(f"segment {name}: others may write to it")
        return descriptor

    def segments(self) -> list[tuple[float, int, str]]:
        """When each was used last, the bytes it takes, and its name."""
        found = []
        for name in filter(str.isdigit, os.listdir(self._fd)):  # noqa: PTH208  it has no path
            with suppress(OSError):
                status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                found.append((status.st_mtime, status.st_blocks * 512, name))
        return found

    def remove(self, name: str) -> None:
        """Remove a segment."""
        os.unlink(name, dir_fd=self._fd)


class _Segment:
    """A part of a file on disk; closed when it is not referred to any more.

    Args:
        fd: Its descriptor, which is its own from now on.
        size: Bytes of data that belong into it.
        seed: Which segment of which file it is: no checksum is right in another.
    """

    def __init__(self, fd: int, size: int, seed: int) -> None:
        self.fd, self.size, self._seed = fd, size, seed
        self._sound = np.zeros(-(-size // BLOCK), bool)
        self._touched = 0.0

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)

    def removed(self) -> bool:
        """Whether it was removed from the folder."""
        return os.fstat(self.fd).st_nlink == 0

    def touch(self) -> None:
        """Note, now and then, that it is in use."""
        now = time.monotonic()
        if now - self._touched > _TOUCH:
            self._touched = now
            with suppress(OSError):
                os.utime(self.fd)

    def check(self, blocks: slice) -> npt.NDArray[np.bool_]:
        """Which of its blocks are there, and are what was written."""
        sound = self._sound[blocks]
        if not sound.all():
            with suppress(OSError):
                self._check(blocks.start, sound)
        return sound

    def _check(self, first: int, sound: npt.NDArray[np.bool_]) -> None:
        table = os.pread(self.fd, 4 * len(sound), SEGMENT + 4 * first)
        sums = np.frombuffer(table.ljust(4 * len(sound), b"\0"), "<u4")
        for place in np.flatnonzero(~sound & (sums != 0)).tolist():
            at = (first + place) * BLOCK
            data = os.pread(self.fd, min(BLOCK, self.size - at), at)
            if self._sum(data, at) == sums[place]:
                sound[place] = True

    def read(self, at: int, into: memoryview) -> bool:
        """Fill `into` from a place in the data; False if that failed."""
        try:
            return os.preadv(self.fd, [into], at) == len(into)
        except OSError:
            return False

    def write(self, at: int, data: memoryview) -> None:
        """Write blocks, and then that they are there."""
        sums = [self._sum(data[n : n + BLOCK], at + n) for n in range(0, len(data), BLOCK)]
        _write(self.fd, data, at)
        _write(self.fd, memoryview(np.array(sums, "<u4").tobytes()), SEGMENT + 4 * (at // BLOCK))

    def _sum(self, data: bytes | memoryview, at: int) -> int:
        """The checksum of the block at a place in the data, never 0."""
        return crc32(data, (self._seed + at // BLOCK) % (1 << 32)) or 1


class _Bound:
    """Keeps a folder from growing, together with those of the same folder in other processes.

    Each looks after it has written a part of what is allowed, and removes the segments that were
    not used for longest.

    Args:
        root: The folder.
        size: Bytes that it may take; None for any number.
    """

    def __init__(self, root: Path, size: int | None) -> None:
        self._root, self._size = root, size
        self._written, self._lock = 0, threading.Lock()

    def count(self, nbytes: int) -> None:
        """Note that so much was written."""
        if self._size is None:
            return
        with self._lock:
            self._written += nbytes
            due = self._written >= self._size // _CHECKS
            if due:
                self._written = 0
        if due:
            self.check()

    def check(self) -> None:
        """Make room, if the folder takes more than it may once processes have written on."""
        if self._size is None:
            return
        lock = self._root / f"lock.{os.geteuid()}"
        with suppress(OSError), FileIO(open_plain(lock, os.O_RDWR | os.O_CREAT), "r+") as turn:
            try_lock(turn.fileno())  # whoever has the lock makes the room
            segments = sorted(self._segments())
            excess = sum(taken for _, taken, *_ in segments) - self._size * (_ROOM - 1) // _ROOM
            for _, taken, folder, name in segments:
                if excess <= 0:
                    break
                with suppress(OSError):
                    _Folder(folder).remove(name)
                excess -= taken

    def _segments(self) -> list[tuple[float, int, Path, str]]:
        """When each was used last, the bytes it takes, its folder and its name.

        Nothing else that lies in `cache_dir` is looked at, and no link is followed.
        """
        found = []
        for folder in self._root.iterdir():
            if _FOLDER.fullmatch(folder.name):
                with suppress(OSError):
                    rows = _Folder(folder).segments()
                    found += [(used, taken, folder, name) for used, taken, name in rows]
        return found


def _write(fd: int, data: memoryview, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)


def _cut(start: int, stop: int, length: int) -> list[tuple[int, int]]:
    """A range in pieces that do not cross a multiple of `length`."""
    edges = [start, *range((start // length + 1) * length, stop, length), stop]
    return list(pairwise(edges))
