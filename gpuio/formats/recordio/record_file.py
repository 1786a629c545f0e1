"""A .rec file that is open for reading, record by record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final, Self

import numpy as np

from gpuio.errors import CorruptRecordError
from gpuio.formats.recordio.framing import (
    HEAD,
    HEAD_NBYTES,
    MAGIC,
    MAGIC_BYTES,
    MAX_PAYLOAD,
    CutOffError,
    Flag,
    corrupt,
    padded,
    parse_head,
    truncated,
)
from gpuio.storage.byte_source import ByteSource
from gpuio.storage.opening import open_bytes

_SMALL_RECORD: Final = 16 << 10  # bytes read at once: mostly a whole record of a face
_SMALL_WINDOW: Final = 4 << 10
_LARGE_WINDOW: Final = 1 << 20


class RecordFile:
    """A .rec, on disk or at a URL, open for reading at any offset, from any number of threads.

    Where another thread closes the file, a call that is under way is completed or raises.

    Args:
        path: The .rec.

    Attributes:
        bytes: The file.

    Raises:
        OSError: The file cannot be opened.
    """

    __slots__ = ("bytes",)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.bytes: ByteSource = open_bytes(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, once the reads under way are done; a second call has no effect."""
        self.bytes.close()

    @property
    def path(self) -> str:
        """The path or URL, as given."""
        return self.bytes.path

    @property
    def size(self) -> int:
        """Bytes in the file now: it may be growing."""
        return self.bytes.size

    def read(self, offset: int) -> tuple[bytes, int]:
        """The payload of the record at `offset`, and where the next record starts.

        Raises:
            CorruptRecordError: There is no whole record at `offset`.
        """
        block = self.bytes.pread(_SMALL_RECORD, offset)
        if len(block) >= HEAD_NBYTES:
            magic, word = HEAD.unpack_from(block)
            end = HEAD_NBYTES + padded(word)
            # A word beyond MAX_PAYLOAD carries a flag.
            if magic == MAGIC and word <= MAX_PAYLOAD and end <= len(block):
                return block[HEAD_NBYTES : HEAD_NBYTES + word], offset + end
        pieces: list[bytes] = []
        position = offset
        for start, length in self._parts(offset):
            piece = self.bytes.pread(length, start)
            if len(piece) < length:  # the file was cut since its size was asked for
                raise self._cut_off(offset, start, length, len(piece))
            pieces.append(piece)
            position = start + padded(length)
        return MAGIC_BYTES.join(pieces), position

    def end(self, offset: int) -> int:
        """Where the record at `offset` ends, by the heads of its parts; payloads are not read.

        Raises:
            CorruptRecordError: There is no whole record at `offset`.
        """
        position = offset
        for start, length in self._parts(offset):
            position = start + padded(length)
        return position

    def is_cut_off(self, offset: int) -> bool:
        """Whether a record begins at `offset`, and the file ends inside it."""
        try:
            self.end(offset)
        except CutOffError:
            return True
        except CorruptRecordError:
            pass
        return False

    def _parts(self, offset: int) -> Iterator[tuple[int, int]]:
        """Where the payload of each part of the record at `offset` starts, and its bytes."""
        flag, position = int(Flag.FIRST), offset
        while flag in (Flag.FIRST, Flag.MIDDLE):
            head = self.bytes.pread(HEAD_NBYTES, position)
            at = position - offset
            flag, length = parse_head(head, begins=not at, path=self.path, record=offset, at=at)
            start, position = position + HEAD_NBYTES, position + HEAD_NBYTES + padded(length)
            size = self.size
            if position > size:
                raise self._cut_off(offset, start, length, size - start)
            yield start, length

    def _cut_off(self, offset: int, start: int, length: int, found: int) -> CorruptRecordError:
        """The error for a part of the record at `offset` whose payload is not all there."""
        reason, at = truncated(padded(length), found), start - HEAD_NBYTES - offset
        return corrupt(reason, path=self.path, record=offset, at=at, kind=CutOffError)

    def find_head(self, offset: int) -> int:
        """Where the first record head at or after `offset` lies; the file's size if none does.

        A head is a magic at a multiple of 4 bytes, followed by flag 0 or 1.
        """
        size = self.size
        window = np.empty(min(_LARGE_WINDOW, size), np.uint8)
        position, reach = (offset + 3) // 4 * 4, _SMALL_WINDOW
        while position + HEAD_NBYTES <= size:
            nbytes = self.bytes.readinto(window[:reach].data, position)
            words = np.frombuffer(window, "<u4", nbytes // 4)
            reach *= 4  # mostly there is one nearby
            hits = np.flatnonzero((words[:-1] == MAGIC) & (words[1:] >> 29 <= Flag.FIRST))
            if hits.size:
                return position + 4 * int(hits[0])
            position += 4 * max(len(words) - 1, 1)
        return size
