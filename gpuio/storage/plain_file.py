"""Plain files alone are opened, since anything may lie in a folder that others can write to.

A name may lead to a FIFO, which waits for a writer for ever when it is opened, to a device that has
no end, or by a symbolic link to a file of someone else.
"""

from __future__ import annotations

import errno
import os
import stat
from io import FileIO
from typing import Final

_BASE: Final = (
    getattr(os, "O_NONBLOCK", 0)  # of no effect on plain files
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)
_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


def open_plain(
    path: str | os.PathLike[str],
    flags: int = os.O_RDONLY,
    *,
    mode: int = 0o666,
    follow: bool = False,
    dir_fd: int | None = None,
) -> int:
    """The descriptor of a plain file.

    Args:
        path: The file.
        flags: As `os.open` takes them.
        mode: Permissions of a file that is made.
        follow: Whether a symbolic link is followed; otherwise it is an error.
        dir_fd: The folder that a relative path starts in.

    Raises:
        OSError: The file cannot be opened, is a folder, pipe or device, or has a NUL in its name.
    """
    flags |= _BASE | (0 if follow else getattr(os, "O_NOFOLLOW", 0))
    try:
        descriptor = os.open(path, flags, mode, dir_fd=dir_fd)
    except ValueError as error:  # a NUL in the name
        raise OSError(errno.EINVAL, f"no file name: {error}", os.fspath(path)) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{os.fspath(path)}: a plain file expected, found a folder, pipe or device")
    return descriptor


def read_plain(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a plain file; a symbolic link is followed.

    Raises:
        OSError: It cannot be read, or is no plain file.
    """
    with FileIO(open_plain(path, follow=True)) as file:
        return file.readall()


def is_trusted(status: os.stat_result) -> bool:
    """Whether only this user or root can have written the file or folder with this status."""
    if not hasattr(os, "geteuid"):  # Windows
        return True
    return status.st_uid in (0, os.geteuid()) and not status.st_mode & _OTHERS_WRITE
