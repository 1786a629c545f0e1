"""Parts of copies of files at URLs, on disk: their folders, the segments in them, their limit.

See `cache.py` for how they are laid out.
"""

from __future__ import annotations

import os
import re
import threading
import time
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from gpuio.storage.plain_file import is_trusted, open_plain
from gpuio.storage.write_lock import try_lock

BLOCK: Final = 16 << 10  # bytes: little more than a record of a face
SEGMENT: Final = 64 << 20  # bytes: what is removed at once
_CHECKS_PER_LIMIT: Final = 64  # how often a process checks the limit while it writes as much
_FREED: Final = 8  # this part of the limit is free after old segments were removed
_FOLDER: Final = re.compile(r"[0-9a-f]{32}")  # the name of one
_TOUCH: Final = 60  # seconds between notes that a segment is in use


class CopyFolder:
    """The folder of one file's copy, which stays open as long as it is referred to.

    Args:
        path: The folder.

    Raises:
        OSError: It is no folder, or other users may write to it.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not is_trusted(os.fstat(self._fd)):
            raise PermissionError(f"{path}: others may write to it; give another cache_dir")

    def __del__(self) -> None:
        if hasattr(self, "_fd"):
            os.close(self._fd)

    def note(self, text: str) -> None:
        """Write down once whose copy this is."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with suppress(FileExistsError):
            descriptor = open_plain("source", flags, mode=0o600, dir_fd=self._fd)
            with FileIO(descriptor, "w") as file:
                file.write(text.encode())

    def open(self, name: str, *, make: bool) -> int:
        """The descriptor of a segment.

        Args:
            name: The name of its file.
            make: Make the file if there is none.

        Raises:
            OSError: There is no such file, it is no plain file, or others may write to it.
        """
        flags = os.O_RDWR | (os.O_CREAT if make else 0)
        descriptor = open_plain(name, flags, mode=0o600, dir_fd=self._fd)
        if not is_trusted(os.fstat(descriptor)):
            os.close(descriptor)
            raise PermissionError(f"segment {name}: others may write to it")
        return descriptor

    def segments(self) -> list[tuple[float, int, str]]:
        """For each segment, when it was used last, the bytes it takes on disk, and its name."""
        found = []
        for name in filter(str.isdigit, os.listdir(self._fd)):  # noqa: PTH208  it has no path
            with suppress(OSError):
                status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
                found.append((status.st_mtime, status.st_blocks * 512, name))
        return found

    def remove(self, name: str) -> None:
        """Remove a segment."""
        os.unlink(name, dir_fd=self._fd)


class Segment:
    """One segment of a copy, which stays open as long as it is referred to.

    Args:
        fd: The descriptor, which the segment closes.
        size: Bytes of data in a segment that is complete.
        seed: A number of this segment of this file, so that no checksum is right in another one.
    """

    def __init__(self, fd: int, size: int, seed: int) -> None:
        self.fd, self.size, self._seed = fd, size, seed
        self._valid = np.zeros(-(-size // BLOCK), bool)
        self._touched = 0.0

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)

    def removed(self) -> bool:
        """Whether the segment was removed from its folder."""
        return os.fstat(self.fd).st_nlink == 0

    def touch(self) -> None:
        """Note now and then, in the time of the file, that the segment is in use."""
        now = time.monotonic()
        if now - self._touched > _TOUCH:
            self._touched = now
            with suppress(OSError):
                os.utime(self.fd)

    def check(self, blocks: slice) -> npt.NDArray[np.bool_]:
        """(n,) which blocks are there with the right checksum.

        Args:
            blocks: The numbers of n neighbouring blocks.
        """
        valid = self._valid[blocks]
        if not valid.all():
            with suppress(OSError):
                self._check(blocks.start, valid)
        return valid

    def _check(self, first: int, valid: npt.NDArray[np.bool_]) -> None:
        table = os.pread(self.fd, 4 * len(valid), SEGMENT + 4 * first)
        sums = np.frombuffer(table.ljust(4 * len(valid), b"\0"), "<u4")
        for place in np.flatnonzero(~valid & (sums != 0)).tolist():
            at = (first + place) * BLOCK
            data = os.pread(self.fd, min(BLOCK, self.size - at), at)
            if self._sum(data, at) == sums[place]:
                valid[place] = True

    def read(self, at: int, into: memoryview) -> bool:
        """Fill `into` from byte `at` of the data; False if that failed."""
        try:
            return os.preadv(self.fd, [into], at) == len(into)
        except OSError:
            return False

    def write(self, at: int, data: memoryview) -> None:
        """Write whole blocks at byte `at` of the data, and then their checksums."""
        sums = [self._sum(data[n : n + BLOCK], at + n) for n in range(0, len(data), BLOCK)]
        _write(self.fd, data, at)
        _write(self.fd, memoryview(np.array(sums, "<u4").tobytes()), SEGMENT + 4 * (at // BLOCK))

    def _sum(self, data: bytes | memoryview, at: int) -> int:
        """The checksum of the block at byte `at` of the data, never 0."""
        return crc32(data, (self._seed + at // BLOCK) % (1 << 32)) or 1


class SizeLimit:
    """Keeps a folder of copies below a size, as do other processes with the same folder.

    Each process checks after it has written a part of what is allowed, and removes the segments
    that have been unused for the longest time.

    Args:
        root: The folder.
        size: Bytes that the copies may take; None for no limit.
    """

    def __init__(self, root: Path, size: int | None) -> None:
        self._root, self._size = root, size
        self._written, self._lock = 0, threading.Lock()

    def count(self, nbytes: int) -> None:
        """Note that `nbytes` more bytes were written."""
        if self._size is None:
            return
        with self._lock:
            self._written += nbytes
            due = self._written >= self._size // _CHECKS_PER_LIMIT
            if due:
                self._written = 0
        if due:
            self.check()

    def check(self) -> None:
        """Remove segments if the copies are near the limit."""
        if self._size is None:
            return
        lock = self._root / f"lock.{os.geteuid()}"
        with suppress(OSError), FileIO(open_plain(lock, os.O_RDWR | os.O_CREAT), "r+") as turn:
            try_lock(turn.fileno())  # one process at a time removes segments
            segments = sorted(self._segments())
            excess = sum(taken for _, taken, *_ in segments) - self._size * (_FREED - 1) // _FREED
            for _, taken, folder, name in segments:
                if excess <= 0:
                    break
                with suppress(OSError):
                    CopyFolder(folder).remove(name)
                excess -= taken

    def _segments(self) -> list[tuple[float, int, Path, str]]:
        """For each segment, when it was used last, the bytes it takes, its folder and its name.

        Nothing else in `cache_dir` counts, and no link is followed.
        """
        found = []
        for folder in self._root.iterdir():
            if _FOLDER.fullmatch(folder.name):
                with suppress(OSError):
                    rows = CopyFolder(folder).segments()
                    found += [(used, taken, folder, name) for used, taken, name in rows]
        return found


def _write(fd: int, data: memoryview, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)
