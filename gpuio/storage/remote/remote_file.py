"""`RemoteFile`: a file at a URL, and ranges of its bytes.

Every answer is compared with what was asked for (status, range, length) and with the file as it was
when it was opened (size and version), as far as the store tells.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from gpuio.storage.location import Location
from gpuio.storage.remote.retry import OPENING_TRIES, ChangedError, ShortReadError, with_retries

if TYPE_CHECKING:
    from gpuio.storage.remote.cache import Copy

CONNECTIONS: Final = 256  # and requests in flight: with 20 ms each, 12,800 a second
LONGEST_REQUEST: Final = 300  # seconds
CONTENT_RANGE: Final = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


class RemoteFile(ABC):
    """A file at a URL that is read by ranges.

    Attributes:
        url: The URL.
        size: Bytes in it.
        version: An ETag or a time, which changes with the file; "" where the store has neither, and
            the size alone tells one file from another.
        copy: The blocks of it that lie on disk; None where none are kept.
    """

    url: Location
    size: int = 0
    version: str = ""
    copy: Copy | None = None

    @abstractmethod
    async def read(self, start: int, stop: int) -> bytes:
        """The bytes from `start` up to `stop`, at most to the end of the file.

        Raises:
            RemoteError: The bytes could not be read, or the file is not the one that was opened.
        """


class StoredFile(RemoteFile):
    """A file in a store, which is asked for its ranges, with retries."""

    async def open(self) -> RemoteFile:
        """Find out the size and version of the file, and give the file itself.

        Raises:
            FileNotFoundError: There is no such file.
            RemoteError: The store cannot be reached, or denies access.
        """
        await with_retries(self._look, self.url, tries=OPENING_TRIES)
        return self

    async def read(self, start: int, stop: int) -> bytes:
        async def ask() -> bytes:
            data = await self._ask(start, stop)
            if len(data) < stop - start:
                raise ShortReadError(f"the body ended after {len(data)} bytes")
            if len(data) > stop - start:
                raise ChangedError(f"{len(data)} bytes came for {stop - start}")
            return data

        return await with_retries(ask, f"{self.url}: bytes {start} to {stop - 1}")

    @abstractmethod
    async def _look(self) -> None:
        """Set size and version, by one request."""

    @abstractmethod
    async def _ask(self, start: int, stop: int) -> bytes:
        """The bytes of a range of the file that was opened, by one request.

        Raises:
            ChangedError: The file is another one now, or the bytes are those of another range.
        """

    def _check_same(self, size: int, version: str) -> None:
        """Refuse a file of another size or version than the one that was opened."""
        if (size, version) != (self.size, self.version):
            raise ChangedError(changed((self.size, self.version), (size, version)))


def changed(before: tuple[int, str], now: tuple[int, str]) -> str:
    """The message for a file whose size and version are no longer those from `before`."""
    then, later = (f"{size} bytes, {version or 'no version'}" for size, version in (before, now))
    hint = "open it anew, and give a file that changes another name"
    return f"the file has changed since it was opened: it was {then}, and is {later}; {hint}"


def check_bounds(found: re.Match[str], start: int, stop: int) -> None:
    """Raise ChangedError if the match of `CONTENT_RANGE` is not the range that was asked for."""
    if found[1] is None or (int(found[1]), int(found[2])) != (start, stop - 1):
        reason = f"asked for bytes {start} to {stop - 1}, the server says it sent {found[0]!r}"
        raise ChangedError(f"{reason}; see what lies between (a proxy, a cache) and the file")
