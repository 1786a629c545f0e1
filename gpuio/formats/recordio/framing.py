"""How a record lies in a .rec file: its parts and their heads, written and checked.

    uint32 magic | uint32 flag:3 length:29 | payload | zero padding to 4 bytes

All integers are little-endian. A payload that contains the magic at a multiple of 4 bytes is
cut there into several parts (`Flag`), and the magic itself is left out. So a magic at a multiple of
4 bytes of the file always begins a part, which is what lets `scan` look at many records at once and
`verify` go on after damage.

Source: dmlc-core, include/dmlc/recordio.h and src/recordio.cc.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import CorruptRecordError

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import ReadableBuffer

MAGIC: Final = 0xCED7230A
MAGIC_BYTES: Final = struct.pack("<I", MAGIC)
MAX_PAYLOAD: Final = (1 << 29) - 1
HEAD: Final = struct.Struct("<II")
HEAD_NBYTES: Final = HEAD.size

_MAX_PARTS: Final = 1000  # whose heads are followed for the length of a record


class CutOffError(CorruptRecordError):
    """The file ends inside the record."""


class Flag(IntEnum):
    """What a part is of its record."""

    WHOLE = 0
    FIRST = 1
    MIDDLE = 2
    LAST = 3


def frame(payload: ReadableBuffer) -> bytes:
    """`payload` as it lies in a file: heads, parts, padding.

    Raises:
        ValueError: `payload` is longer than `MAX_PAYLOAD`.
    """
    view = memoryview(payload).cast("B")
    nbytes = len(view)
    if nbytes > MAX_PAYLOAD:
        raise ValueError(f"payload must be at most {MAX_PAYLOAD} bytes, got {nbytes}")
    words = np.frombuffer(view, "<u4", nbytes // 4)
    cuts = np.flatnonzero(words == MAGIC)
    pieces: list[bytes | memoryview] = []
    start = 0
    for cut in (4 * cuts).tolist():
        flag = Flag.MIDDLE if start else Flag.FIRST
        pieces += (HEAD.pack(MAGIC, flag << 29 | (cut - start)), view[start:cut])
        start = cut + 4
    flag = Flag.LAST if start else Flag.WHOLE
    pieces += (HEAD.pack(MAGIC, flag << 29 | (nbytes - start)), view[start:], bytes(-nbytes % 4))
    return b"".join(pieces)


def frame_ends(
    offsets: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    read: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.uint32]],
) -> npt.NDArray[np.int64]:
    """Where records end, by the heads of their parts.

    A record of more than 1000 parts is taken to end with its file.

    Args:
        offsets: (N,) int64, where the records start, in bytes.
        sizes: (N,) int64, sizes of the files that hold them, in bytes.
        read: Function of (n,) record numbers and (n,) offsets inside their files that returns the
            two words at each offset, (n, 2) uint32.

    Returns:
        (N,) int64 offsets in bytes; 0 where there is no whole record.
    """
    ends, rows, begins = offsets.copy(), np.arange(len(offsets)), True
    for _ in range(_MAX_PARTS):
        if not len(rows):
            return ends
        heads = np.zeros((len(rows), 2), np.uint32)
        inside = np.flatnonzero(ends[rows] + HEAD_NBYTES <= sizes[rows])
        heads[inside] = read(rows[inside], ends[rows[inside]])
        magics, words = heads.T
        flags = words >> np.uint32(29)
        ends[rows] = part_ends(ends[rows], words)
        lost = (magics != MAGIC) | (flags > Flag.LAST) | ((flags <= Flag.FIRST) != begins)
        lost |= ends[rows] > sizes[rows]
        ends[rows[lost]] = 0
        rows, begins = rows[~lost & ((flags == Flag.FIRST) | (flags == Flag.MIDDLE))], False
    ends[rows] = sizes[rows]
    return ends


def part_ends(
    starts: npt.NDArray[np.int64], words: npt.NDArray[np.uint32]
) -> npt.NDArray[np.int64]:
    """(N,) int64, where the parts end that start at (N,) offsets and have (N,) second words."""
    return starts + HEAD_NBYTES + ((words & MAX_PAYLOAD).astype(np.int64) + 3 & ~3)


def begin_here(heads: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(N,) bool, which of the heads, (N, 8) uint8, begin a record."""
    magics, words = heads.view("<u4").T
    begin: npt.NDArray[np.bool_] = (magics == MAGIC) & (words >> 29 <= Flag.FIRST)
    return begin


def parse_head(
    head: ReadableBuffer, *, begins: bool, path: str, record: int, at: int
) -> tuple[int, int]:
    """Flag and length of the part that is `at` bytes into `record`."""
    found = len(memoryview(head))
    if found < HEAD_NBYTES:
        raise corrupt(truncated_head(found), path=path, record=record, at=at, kind=CutOffError)
    magic, word = HEAD.unpack(head)
    if magic != MAGIC:
        raise corrupt(wrong_magic(magic), path=path, record=record, at=at)
    flag, length = word >> 29, word & MAX_PAYLOAD
    if flag > Flag.LAST or (flag <= Flag.FIRST) != begins:
        raise corrupt(wrong_flag(flag, begins=begins), path=path, record=record, at=at)
    return flag, length


def corrupt(
    reason: str,
    *,
    path: str,
    record: int,
    at: int,
    kind: type[CorruptRecordError] = CorruptRecordError,
) -> CorruptRecordError:
    """The error for the part that is `at` bytes into `record`."""
    if at:
        reason = f"part at byte {record + at}: {reason}"
    return kind(reason, path=path, offset=record)


def padded(length: int) -> int:
    """`length` rounded up to a multiple of 4 bytes."""
    return (length + 3) & ~3


def wrong_magic(found: int) -> str:
    """The reason where a head has no magic."""
    return f"magic is {found:#010x}, not {MAGIC:#010x}"


def wrong_flag(found: int, *, begins: bool) -> str:
    """The reason where a part cannot begin a record, or cannot go on with one."""
    return f"flag is {found}, not {'0 or 1' if begins else '2 or 3'}"


def truncated_head(found: int) -> str:
    """The reason where the file ends inside a head."""
    return f"head of {HEAD_NBYTES} bytes, {found} found"


def truncated(expected: int, found: int) -> str:
    """The reason where the file ends inside a payload or its padding."""
    return f"payload of {expected} bytes with its padding, {found} found"
