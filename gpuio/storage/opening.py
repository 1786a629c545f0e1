"""Files opened by path or URL, without the caller asking which of the two it is."""

from __future__ import annotations

import os
from io import BufferedReader, FileIO
from typing import TYPE_CHECKING

from gpuio.storage.appender import Appender, LocalAppender
from gpuio.storage.byte_source import ByteSource, LocalBytes
from gpuio.storage.paths import is_url
from gpuio.storage.plain_file import open_plain, read_plain

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def open_bytes(path: str | os.PathLike[str]) -> ByteSource:
    """A file open for reading at any offset.

    Raises:
        OSError: The file cannot be opened.
    """
    if is_url(path):
        from gpuio.storage.remote.remote_bytes import RemoteBytes

        return RemoteBytes(os.fspath(path))
    return LocalBytes(path)


class _NamedFile(FileIO):
    """A plain file, open for reading; an error of a read names it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(open_plain(path, follow=True))
        self._path = os.fspath(path)

    def readinto(self, buffer: WriteableBuffer, /) -> int | None:
        try:
            return super().readinto(buffer)
        except OSError as error:
            error.filename = self._path
            raise


def open_file(path: str | os.PathLike[str]) -> BufferedReader:
    """A file open for reading from its start; one at a URL is copied to a temporary file first.

    Raises:
        OSError: The file cannot be opened, or is a folder, pipe or device.
    """
    if is_url(path):
        from gpuio.storage.remote.files import download

        return BufferedReader(download(os.fspath(path)))
    return BufferedReader(_NamedFile(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a small file.

    Raises:
        OSError: The file cannot be read, or is a folder, pipe or device.
    """
    if not is_url(path):
        return read_plain(path)
    with open_bytes(path) as file:
        return file.pread(file.size, 0)


def open_appender(path: str) -> Appender:
    """A new, empty file at a path or URL.

    Raises:
        OSError: It cannot be written.
    """
    if is_url(path):
        from gpuio.storage.remote.output import RemoteAppender

        return RemoteAppender(path)
    return LocalAppender(path)
