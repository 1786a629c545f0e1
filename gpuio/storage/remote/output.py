"""Files written to URLs: each appears when it is complete, or not at all.

Object stores take a file in parts and show it once it is committed. On other filesystems it has a
temporary name until then, with `.partial` at its end. S3 may keep the parts that a killed process
has sent: no listing shows them, but they are stored until a lifecycle rule or
`aws s3api abort-multipart-upload` removes them. Two processes that write to one URL do not notice
each other: the file that is complete last stays.
"""

from __future__ import annotations

import io
import secrets
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

from gpuio.errors import RemoteError
from gpuio.storage.appender import Appender
from gpuio.storage.location import Location
from gpuio.storage.remote.filesystem import filesystem
from gpuio.storage.remote.retry import summarize

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

T = TypeVar("T")

_COMMITS: Final = {"s3", "s3a", "gs", "gcs", "memory", "file", "local", "webhdfs", "webHDFS"}


class Upload:
    """A file at a URL that is being written.

    Args:
        url: The URL that it gets when it is complete.

    Raises:
        RemoteError: This kind of URL cannot be written, or what it needs is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = Location.of(url)
        self._fs, self._path = filesystem(self.url)
        schemes = {self._fs.protocol} if isinstance(self._fs.protocol, str) else self._fs.protocol
        self._commits = bool(_COMMITS & set(schemes))
        self._partial = f"{self._path}.{secrets.token_hex(8)}.partial"
        self._file: Any = None

    def __str__(self) -> str:
        return self.url

    def open(self, buffering: int = 0) -> UploadFile:
        """Open the new file for writing; `buffering` has no effect: fsspec chooses the parts."""
        if self._commits:
            self._file = self._do(lambda: self._fs.open(self._path, "wb", autocommit=False))
        else:
            self._file = self._do(lambda: self._fs.open(self._partial, "wb"))
        return UploadFile(self, self._file)

    def flush(self) -> None:
        """Do nothing: a store keeps what it has taken."""

    def commit(self) -> None:
        """Give the closed file its name, in place of an old file."""
        schemes = str(self._fs.protocol)
        if not self._commits or "hdfs" in schemes.lower():
            self.remove()  # renaming does not replace a file there
        if self._commits:
            self._do(self._file.commit)
        else:
            self._do(lambda: self._fs.mv(self._partial, self._path))

    def discard(self) -> None:
        """Remove the file, as far as the store can still be reached."""
        with suppress(Exception):
            if self._commits:
                self._file.discard()
            else:
                self._fs.rm_file(self._partial)

    def remove(self) -> None:
        """Remove the old file of this name, if there is one.

        Raises:
            RemoteError: The store cannot be reached, or denies access.
        """
        if self._do(lambda: self._fs.exists(self._path)):
            self._do(lambda: self._fs.rm_file(self._path))

    def _do(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except Exception as error:
            hint = "check the URL, that its credentials may write it, and storage_options="
            raise RemoteError(
                f"{self.url}: cannot be written: {summarize(error)}; {hint}"
            ) from error


class UploadFile(io.RawIOBase):
    """The file that `Upload.open` gives: write, tell and close, with errors that name the URL."""

    def __init__(self, upload: Upload, file: Any) -> None:
        self._upload, self._file, self._position = upload, file, 0

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        nbytes = memoryview(data).nbytes
        self._upload._do(lambda: self._file.write(data))
        self._position += nbytes
        return nbytes

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._upload._do(self._file.close)


class RemoteAppender(Appender):
    """A file at a URL that is written piece by piece.

    Args:
        url: The URL.

    Raises:
        RemoteError: It cannot be written.
    """

    appears_when_closed = True

    def __init__(self, url: str) -> None:
        self._upload = Upload(url)
        self._file = self._upload.open()
        self._state: Literal["open", "broken", "closed"] = "open"
        self.position = 0

    def append(self, data: bytes) -> int:
        start = self.position
        try:
            self._file.write(data)
        except BaseException:
            self._state = "broken"
            raise
        self.position = start + len(data)
        return start

    def cut(self, position: int) -> None:
        self._state = "broken"  # what was sent cannot be taken back: the whole file is given up

    def remove_old(self) -> None:
        if self._state == "open":
            self._upload.remove()

    def abandon(self) -> None:
        if self._state == "open":
            self._state = "broken"

    def close(self) -> None:
        state, self._state = self._state, "closed"
        if state == "closed" or sys.is_finalizing():  # fsspec's thread is gone then
            return
        try:
            if state == "open":
                self._file.close()
                self._upload.commit()
                return
        except BaseException:
            self._upload.discard()
            raise
        with suppress(RemoteError):
            self._file.close()
        self._upload.discard()
