"""A store in a file that processes of one user map: in RAM (`/dev/shm`), or on a disk.

    folder, for this user alone; locked by who opens, claims, settles or leaves
    file, named by what its pixels depend on: HEADER | entries | pixels; locked by all who use it

Locks are flock(2), which end with a process however that ends. A file that nobody holds was left
by processes that were killed: whoever opens or leaves a store of the folder removes it. The last
one that leaves a file removes it, too. Space is allocated before it is written to, as writing to a
mapped page for which there is no space kills the process.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.pipeline.cache.entries import HEADER
from gpuio.pipeline.cache.store import ALIGNMENT, Store
from gpuio.storage.plain_file import open_plain

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

_MODE: Final = 0o600
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM)


class SharedStore(Store):
    """A store that all processes of this user share which open it under the same name.

    Args:
        folder: The folder of the file; made where it is missing.
        name: Names the file: equal for stores of the same pixels of the same records.
        count: Number of records.
        dtype: Of their entries.
        limit: The most bytes that the file takes.
        spare: The part of the file system that is left free, 0 to 1.

    Raises:
        OSError: The file cannot be made, or the folder is one that others can write to.
        ValueError: `limit` is too little even for the entries.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        count: int,
        dtype: np.dtype[np.void],
        limit: int,
        *,
        spare: float = 0,
    ) -> None:
        self._folder, self._limit, self._spare = folder, limit, spare
        self._thread, self._full = threading.Lock(), False
        self._start = check_limit(count, dtype, limit)
        with _locked_folder(folder) as place:
            _remove_unused(place)
            self._file = self._open(place, name)
        try:
            pages = mmap.mmap(self._file, limit)
        except BaseException:
            os.close(self._file)
            raise
        memory = np.frombuffer(pages, np.uint8)
        self.header = memory[: HEADER.itemsize].view(HEADER)
        entries = memory[HEADER.itemsize : HEADER.itemsize + count * dtype.itemsize]
        self.index = entries.view(dtype)
        self.base = memory.ctypes.data
        self._finalizer = weakref.finalize(self, _leave, folder, self._file, name, os.getpid())

    def close(self) -> None:
        self.header, self.index = self.header.copy(), self.index[:0].copy()  # lets go of the pages
        self._finalizer()

    @contextmanager
    def locked(self) -> Iterator[None]:
        with self._thread, _locked_folder(self._folder):
            yield

    def allocate(self, nbytes: Int64s) -> UInt64s:
        begin = max(int(self.header["used"][0]), self._start)
        ends = begin + np.cumsum(nbytes)
        count = 0 if self._full else int(np.searchsorted(ends, self._limit, "right"))
        if count:
            end = int(ends[count - 1])
            if not self._extend(begin, end):
                return np.zeros(0, np.uint64)
            self.header["used"] = end
        return (ends[:count] - nbytes[:count]).astype(np.uint64)

    def _open(self, place: int, name: str) -> int:
        """The file, locked; its entries are NONE where it is a new one."""
        try:
            file = open_plain(name, os.O_RDWR, dir_fd=place)
        except FileNotFoundError:
            file = self._make(place, name)
        fcntl.flock(file, fcntl.LOCK_SH)
        return file

    def _make(self, place: int, name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        file = open_plain(name, flags, mode=_MODE, dir_fd=place)
        try:
            os.ftruncate(file, self._limit)
            os.posix_fallocate(file, 0, self._start)
        except OSError as error:
            os.unlink(name, dir_fd=place)
            os.close(file)
            reason = f"{error.strerror}, so no images can be kept there; {_advice(self._folder)}"
            raise OSError(error.errno, reason, str(self._folder / name)) from error
        return file

    def _extend(self, begin: int, end: int) -> bool:
        """Allocate space of the file; False where there is not enough left."""
        try:
            if not self._spare or _free_part(self._file, end - begin) >= self._spare:
                os.posix_fallocate(self._file, begin, end - begin)
                return True
            reason = f"{self._spare:.0%} of it stay free"
        except OSError as error:
            if error.errno not in _FULL:
                raise
            reason = str(error.strerror)
        self._full = True
        warnings.warn(
            f"cache: {self._folder} is full ({reason}) with {begin} bytes of the cache in it, so "
            f"no more is kept there than that; {_advice(self._folder)}",
            stacklevel=2,
        )
        return False


def check_limit(count: int, dtype: np.dtype[np.void], limit: int) -> int:
    """Bytes of a file in front of the pixels, for `count` records with entries of `dtype`.

    Raises:
        ValueError: They are all that `limit` allows.
    """
    start = -(-(HEADER.itemsize + count * dtype.itemsize) // ALIGNMENT) * ALIGNMENT
    if start < limit:
        return start
    raise ValueError(
        f"cache must be more than the {start} bytes that it takes to know {count} records, got "
        f"{limit} bytes"
    )


def _free_part(file: int, nbytes: int) -> float:
    """The part of a file's disk that is free once `nbytes` more are taken."""
    status = os.statvfs(file)
    return (status.f_bavail - nbytes / status.f_frsize) / status.f_blocks


def _advice(folder: Path) -> str:
    if folder.is_relative_to("/dev/shm"):
        return "in a container, `docker run --shm-size=8g` and the like make it larger"
    return "free some space, or give a smaller cache_size"


@contextmanager
def _locked_folder(folder: Path) -> Iterator[int]:
    """The descriptor of a folder that belongs to this user alone, locked; made if it is missing.

    Raises:
        OSError: There is something else of that name, or others may write to it.
    """
    place = _open_folder(folder)
    try:
        yield place
    finally:
        fcntl.flock(place, fcntl.LOCK_UN)  # also for children that were forked meanwhile
        os.close(place)


def _open_folder(folder: Path) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        try:
            place = os.open(folder, flags)
        except FileNotFoundError:  # the last one in it has just removed it
            continue
        try:
            _check_owner(folder, os.fstat(place))
            fcntl.flock(place, fcntl.LOCK_EX)
            # Who held the lock may have removed the folder since it was opened here.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(place), os.lstat(folder)):
                    return place
        except BaseException:
            os.close(place)
            raise
        os.close(place)


def _check_owner(folder: Path, status: os.stat_result) -> None:
    """Refuse a folder whose files others could have made, or could read."""
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        reason = "this folder is open to other users, so no images are kept there: remove it"
        raise PermissionError(errno.EPERM, reason, str(folder))


def _remove_unused(place: int) -> None:
    """Remove the files of a locked folder that nobody holds."""
    for name in os.listdir(place):
        with suppress(OSError):
            file = open_plain(name, os.O_RDWR, dir_fd=place)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=place)
            except BlockingIOError:
                pass
            finally:
                os.close(file)


def _leave(folder: Path, file: int, name: str, process: int) -> None:
    """Let go of a file; the last one removes it, and the folder once that is empty."""
    if os.getpid() != process:  # a forked child: the file is the parent's
        return
    with suppress(OSError), _locked_folder(folder) as place:
        fcntl.flock(file, fcntl.LOCK_UN)  # also for children, which do not use it
        _remove_unused(place)
        folder.rmdir()
    os.close(file)
