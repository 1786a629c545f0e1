"""Files that appear under their names only when they are complete.

Until then a file has a temporary name, `PATH.1f0c93ab57d2e468.partial`, that nobody can guess. One
process at a time writes a file: see `write_lock`. The unfinished file of a process that was killed
is removed by the next process that writes the same file.
"""

from __future__ import annotations

import errno
import io
import os
import re
import secrets
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from gpuio.storage.paths import is_url
from gpuio.storage.plain_file import open_plain
from gpuio.storage.write_lock import write_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from gpuio.storage.remote.output import Upload

_TOKEN_NBYTES: Final = 8
_BUFFER_NBYTES: Final = 1 << 16
_PARTIAL: Final = re.compile(rf"(.+)\.[0-9a-f]{{{2 * _TOKEN_NBYTES}}}\.partial", re.DOTALL)
# With O_EXCL the file is a new one, whatever lies in the folder.
_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL


@contextmanager
def committed(
    *paths: str | os.PathLike[str], lock: bool = True
) -> Iterator[list[PartialFile | Upload]]:
    """Give files to open and write, which become the files at `paths` when the `with` ends.

    After any exception they are removed. The first file is the main one: if the process is killed
    while the files get their names, it stands alone, never beside an old file of another path. The
    content is on the disk before a file gets its name.

    Args:
        paths: Files on disk, or URLs.
        lock: Fail if another process is writing one of the files on disk, and remove unfinished
            files of processes that were killed. Without a lock, the file that is complete last
            stays.

    Raises:
        BusyError: Another process is writing one of the files.
        OSError: A file cannot be written; its name is in the error.
    """
    names = [os.fspath(path) for path in paths]
    with ExitStack() as locks:
        for name in names if lock else []:
            if not is_url(name) and locks.enter_context(write_lock(name)):
                remove_unfinished([name])
        files = [_partial(name) for name in names]
        try:
            yield files
            for file in files:
                file.flush()
            for name in names[1:]:
                _remove(name)
            for file in files:
                file.commit()
        except BaseException:
            for file in files:
                file.discard()
            raise


def write_file(path: str | os.PathLike[str], data: bytes, *, lock: bool = True) -> None:
    """Write a whole file on disk, which replaces one of that name once it is complete.

    A terminal, a pipe or a device of that name is written to instead.

    Args:
        path: The file.
        data: Its content.
        lock: See `committed`.
    """
    if Path(path).exists() and not Path(path).is_file():
        Path(path).write_bytes(data)
        return
    with committed(path, lock=lock) as (partial,), partial.open() as file:
        file.write(data)


def remove_unfinished(paths: Iterable[str]) -> None:
    """Remove the unfinished files of killed processes, for files in one folder that are locked."""
    splits = [os.path.split(path) for path in paths]
    names = {name for _, name in splits}
    with os.scandir(splits[0][0] or ".") as entries:
        matches = [(_PARTIAL.fullmatch(entry.name), entry.path) for entry in entries]
    for match, path in matches:
        if match and match[1] in names:
            Path(path).unlink(missing_ok=True)


class PartialFile:
    """A file on disk that is being written.

    Args:
        path: The path that it gets when it is complete.

    Attributes:
        path: As given.
        name: The temporary path.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = f"{path}.{secrets.token_hex(_TOKEN_NBYTES)}.partial"

    def __str__(self) -> str:
        return self.path

    def open(self, buffering: int = _BUFFER_NBYTES) -> IO[bytes]:
        """Open the new file for writing; `buffering` bytes may wait in memory."""
        return io.BufferedWriter(_NewFile(self.name, self.path), buffering)

    def flush(self) -> None:
        """Write the content of the closed file through to the disk.

        Raises:
            OSError: It could not be written.
        """
        _sync(self.name)

    def commit(self) -> None:
        """Give the closed file its name, in place of an old file."""
        os.replace(self.name, self.path)  # noqa: PTH105
        _sync(os.path.dirname(self.path) or ".")  # noqa: PTH120

    def discard(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            os.unlink(self.name)  # noqa: PTH108


class _NewFile(io.FileIO):
    """A new file whose errors name the path that it will get."""

    def __init__(self, name: str, shown: str) -> None:
        self._shown = shown
        super().__init__(name, "wb", opener=lambda name, _: open_plain(name, _FLAGS))

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._shown) from error


def _sync(path: str) -> None:
    """Write a file, or the names in a folder, through to the disk if the filesystem can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except PermissionError:  # a folder cannot be opened on Windows
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.EROFS):
            raise OSError(error.errno, error.strerror, path) from error
    finally:
        os.close(descriptor)


def _partial(path: str) -> PartialFile | Upload:
    if not is_url(path):
        return PartialFile(path)
    from gpuio.storage.remote.output import Upload

    return Upload(path)


def _remove(path: str) -> None:
    """Remove an old file, if there is one."""
    if not is_url(path):
        Path(path).unlink(missing_ok=True)
        _sync(os.path.dirname(path) or ".")  # noqa: PTH120
        return
    from gpuio.storage.remote.output import Upload

    Upload(path).remove()
