"""The identity of a file: whether it is still the one that was opened, with the same content."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, Self

from gpuio.errors import FormatError
from gpuio.storage.byte_source import LocalBytes
from gpuio.storage.paths import is_url

_EDGE: Final = 4096  # bytes


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file on disk as it was when it was opened first.

    Some file systems (FUSE) give a file another inode number each time it is opened, and others
    give the number of a removed file to the next one. So a file of the same size and time counts as
    the same one if its first and last bytes are the same, whatever its inode number.

    Attributes:
        nbytes: Bytes in the file.
        changed: When it was last written, in nanoseconds.
        place: The device and the inode number.
        edges: A digest of the first and the last 4096 bytes.
    """

    nbytes: int
    changed: int
    place: tuple[int, int]
    edges: bytes

    @property
    def version(self) -> int:
        """A 64-bit number for this content of the file, another one after it has changed."""
        return version_of(repr(self))

    @classmethod
    def of(cls, path: str) -> Self:
        """The identity of the file at `path`.

        Raises:
            OSError: It cannot be opened or read, or is no plain file.
        """
        with LocalBytes(path) as file:
            status = os.fstat(file.fileno())
            place = status.st_dev, status.st_ino
            return cls(status.st_size, status.st_mtime_ns, place, _edges(file))

    def check(self, file: LocalBytes, *, again: bool = False) -> None:
        """Refuse an open file that is another one, or was written to.

        Args:
            file: The open file.
            again: This open file passed the check before, so its bytes are not compared again.

        Raises:
            FormatError: The file is refused.
        """
        status = os.fstat(file.fileno())
        place = status.st_dev, status.st_ino
        if (self.nbytes, self.changed) == (status.st_size, status.st_mtime_ns) and (
            again or _edges(file) == self.edges
        ):
            return
        same = place == self.place and status.st_mtime_ns != self.changed
        how = "written to" if same else "replaced"
        then = _described(self.nbytes, self.changed)
        now = _described(status.st_size, status.st_mtime_ns)
        raise FormatError(
            f"{file.path} was {how} since it was opened first: it had {then}, and has {now}; its "
            "index may be wrong now, so make a new iterator or reader"
        )


def identity_of(path: str) -> FileIdentity | None:
    """The identity of a file on disk; None for one at a URL, whose store tells its version.

    Raises:
        OSError: The file cannot be opened or read, or is no plain file.
    """
    return None if is_url(path) else FileIdentity.of(path)


def version_of(text: str) -> int:
    """A 64-bit number for what a text tells of a file, such as its size and ETag."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest())


def _edges(file: LocalBytes) -> bytes:
    head, tail = file.pread(_EDGE, 0), file.pread(_EDGE, max(file.size - _EDGE, 0))
    return blake2b(head + tail, digest_size=16).digest()


def _described(nbytes: int, changed: int) -> str:
    day = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(changed / 1e9))
    return f"{nbytes} bytes of {day}.{changed % 10**9:09d}"
