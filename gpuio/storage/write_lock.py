"""Locks that keep two processes from writing one file: the second one fails at once.

A lock is a flock(2) on the file `PATH.lock`, which names the process that holds it. It ends with
that process, however the process ends; a `PATH.lock` that a killed process left locks nothing.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from gpuio.errors import BusyError
from gpuio.storage.plain_file import open_plain

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNSUPPORTED: Final = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_OWNER_NBYTES: Final = 300


@contextmanager
def write_lock(path: str) -> Iterator[bool]:
    """Hold the lock on writing a file on disk.

    Args:
        path: The file; it need not exist.

    Yields:
        Whether the lock is held; False where the filesystem has no locks.

    Raises:
        BusyError: Another process, or another thread of this one, holds the lock.
        FileNotFoundError: The folder of `path` does not exist.
        OSError: The file of the lock cannot be made.
    """
    name = f"{path}.lock"
    descriptor = _acquire(path, name)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        with suppress(OSError):
            os.unlink(name)  # noqa: PTH108
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for children that were forked meanwhile
        os.close(descriptor)


def try_lock(descriptor: int) -> None:
    """Lock an open file against other processes at once; nothing where the system has no flock(2).

    Args:
        descriptor: The file; it stays locked until it is closed.

    Raises:
        BlockingIOError: Another process holds the lock.
        OSError: The filesystem has no locks.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _acquire(path: str, name: str) -> int | None:
    """A descriptor of the locked file, or None where the filesystem has no locks."""
    if fcntl is None:
        return None
    while True:
        descriptor = _open(path, name)
        try:
            try_lock(descriptor)
            # The process that held the lock may have removed the file since it was opened here.
            if _is_still(descriptor, name):
                _sign(descriptor)
                return descriptor
        except BlockingIOError:
            owner = _owner(descriptor)
            os.close(descriptor)
            reason = f"{owner} is writing it: wait until that has ended, or write to another name"
            raise BusyError(f"{path}: {reason}") from None
        except OSError as error:
            os.close(descriptor)
            if error.errno in _UNSUPPORTED:
                return None
            raise
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _open(path: str, name: str) -> int:
    """The descriptor of the file `name`, which nobody else may have linked to another place."""
    try:
        descriptor = open_plain(name, os.O_RDWR | os.O_CREAT)
    except FileNotFoundError:
        folder = Path(path).parent
        raise FileNotFoundError(f"{folder}: no such folder, so {path} cannot be written") from None
    if os.fstat(descriptor).st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    raise OSError(errno.EINVAL, "is no file of its own, so it cannot be a lock; remove it", name)


def _is_still(descriptor: int, name: str) -> bool:
    """Whether `name` is the file that is open as `descriptor`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(name))
    except FileNotFoundError:
        return False


def _sign(descriptor: int) -> None:
    """Write down in the file which process holds the lock, if the disk has space for it."""
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())


def _owner(descriptor: int) -> str:
    """The process that holds a lock, as its file says, for messages."""
    words = os.pread(descriptor, _OWNER_NBYTES, 0).decode(errors="replace").split()
    if len(words) != 2:
        return "another process"
    pid, host = words
    here = "" if host == socket.gethostname() else f" on {host}"
    return f"another process (pid {pid}{here})"
