"""RecordIO framing: how records lie in a .rec file.

    uint32 magic | uint32 flag:3 length:29 | payload | zero padding to 4 bytes

All integers are little-endian. A payload that contains the magic at a multiple of 4 bytes is
cut there into several parts (flag 1 first, 2 middle, 3 last; 0 for a whole record) and the magic
itself is left out. So a magic at a multiple of 4 bytes of the file always begins a part, which is
what lets `scan` look at many records at once and `verify` go on after damage.

Reading is stricter than dmlc-core: a record that begins with flag 3, or that lacks its last part
when the file ends, is damage here and was accepted or dropped in silence there.

Source: dmlc-core, include/dmlc/recordio.h and src/recordio.cc.
"""

from __future__ import annotations

import os
import struct
from array import array
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import CorruptRecordError
from gpuio.storage.byte_source import ByteSource
from gpuio.storage.opening import open_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from _typeshed import ReadableBuffer

MAGIC: Final = 0xCED7230A
MAX_PAYLOAD: Final = (1 << 29) - 1
HEAD_NBYTES: Final = 8

_HEAD: Final = struct.Struct("<II")
_MAGIC_BYTES: Final = struct.pack("<I", MAGIC)
_WHOLE, _FIRST, _MIDDLE, _LAST = range(4)

# Records smaller than _SPARSE on average are read in full: one long read beats many short ones.
# Larger ones are skipped over, and a page is enough to see a head.
_SPARSE: Final = 64 << 10
_SMALL_WINDOW: Final = 4 << 10
_LARGE_WINDOW: Final = 1 << 20
_MOST_PARTS: Final = 1000  # whose heads are followed for the length of a record
_SMALL_RECORD: Final = 16 << 10  # bytes read at once: mostly a whole record of a face


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
        flag = _MIDDLE if start else _FIRST
        pieces += (_HEAD.pack(MAGIC, flag << 29 | (cut - start)), view[start:cut])
        start = cut + 4
    flag = _LAST if start else _WHOLE
    pieces += (_HEAD.pack(MAGIC, flag << 29 | (nbytes - start)), view[start:], bytes(-nbytes % 4))
    return b"".join(pieces)


def unframe(view: ReadableBuffer, *, path: str, offset: int) -> tuple[memoryview, int]:
    """The payload of the record that starts `view`, and how many bytes it takes on disk.

    The payload is a view of `view` (no copy) unless the record is split.

    Args:
        view: At least one whole record, padding included; what follows is ignored.
        path: The file it comes from, for messages.
        offset: Where `view` starts in that file, in bytes, for messages.

    Raises:
        CorruptRecordError: A head is wrong, or the record runs past the end of `view`.
    """
    view = memoryview(view).cast("B")
    pieces: list[bytes | memoryview] = []
    position = 0
    while True:
        head = view[position : position + HEAD_NBYTES]
        flag, length = _parse_head(head, begins=not pieces, path=path, record=offset, at=position)
        start, position = position + HEAD_NBYTES, position + HEAD_NBYTES + _padded(length)
        if position > len(view):
            reason = _truncated(_padded(length), len(view) - start)
            raise _corrupt(reason, path=path, record=offset, at=start - HEAD_NBYTES)
        part = view[start : start + length]
        if flag == _WHOLE:
            return part, position
        pieces.append(part)
        if flag == _LAST:
            return memoryview(_MAGIC_BYTES.join(pieces)), position


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
            magic, word = _HEAD.unpack_from(block)
            end = HEAD_NBYTES + _padded(word)
            # A word beyond MAX_PAYLOAD carries a flag.
            if magic == MAGIC and word <= MAX_PAYLOAD and end <= len(block):
                return block[HEAD_NBYTES : HEAD_NBYTES + word], offset + end
        pieces: list[bytes] = []
        position = offset
        for start, length in self._parts(offset):
            pieces.append(self.bytes.pread(length, start))
            position = start + _padded(length)
        return _MAGIC_BYTES.join(pieces), position

    def end(self, offset: int) -> int:
        """Where the record at `offset` ends, by the heads of its parts; payloads are not read.

        Raises:
            CorruptRecordError: There is no whole record at `offset`.
        """
        position = offset
        for start, length in self._parts(offset):
            position = start + _padded(length)
        return position

    def is_cut_off(self, offset: int) -> bool:
        """Whether a record begins at `offset`, and the file ends inside it."""
        position, begins = offset, True
        while True:
            head = self.bytes.pread(HEAD_NBYTES, position)
            if len(head) < HEAD_NBYTES:
                return True
            magic, word = _HEAD.unpack(head)
            flag = word >> 29
            if magic != MAGIC or flag > _LAST or (flag <= _FIRST) != begins:
                return False
            position += HEAD_NBYTES + _padded(word & MAX_PAYLOAD)
            if position > self.size:
                return True
            if flag in (_WHOLE, _LAST):
                return False
            begins = False

    def _parts(self, offset: int) -> Iterator[tuple[int, int]]:
        """Where the payload of each part of the record at `offset` starts, and its bytes."""
        flag, position = _FIRST, offset
        while flag in (_FIRST, _MIDDLE):
            head = self.bytes.pread(HEAD_NBYTES, position)
            at = position - offset
            flag, length = _parse_head(head, begins=not at, path=self.path, record=offset, at=at)
            start, position = position + HEAD_NBYTES, position + HEAD_NBYTES + _padded(length)
            size = self.size
            if position > size:
                reason = _truncated(_padded(length), size - start)
                raise _corrupt(reason, path=self.path, record=offset, at=at)
            yield start, length

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
            hits = np.flatnonzero((words[:-1] == MAGIC) & (words[1:] >> 29 <= _FIRST))
            if hits.size:
                return position + 4 * int(hits[0])
            position += 4 * max(len(words) - 1, 1)
        return size


def frame_ends(
    offsets: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    read: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], npt.NDArray[np.uint32]],
) -> npt.NDArray[np.int64]:
    """(N,) int64, where records end by the heads of their parts; 0 where there is no whole record.

    A record of more than 1000 parts is taken to end with its file.

    Args:
        offsets: (N,) where the records start, in bytes.
        sizes: (N,) bytes in the file of each.
        read: Numbers of records, (n,), and a place in the file of each, (n,), to the two words that
            lie there, (n, 2).
    """
    ends, rows, begins = offsets.copy(), np.arange(len(offsets)), True
    for _ in range(_MOST_PARTS):
        if not len(rows):
            return ends
        magics, words = read(rows, ends[rows]).T
        flags = words >> np.uint32(29)
        ends[rows] += HEAD_NBYTES + ((words & MAX_PAYLOAD).astype(np.int64) + 3 & ~3)
        lost = (magics != MAGIC) | (flags > _LAST) | ((flags <= _FIRST) != begins)
        lost |= ends[rows] > sizes[rows]
        ends[rows[lost]] = 0
        rows, begins = rows[~lost & ((flags == _FIRST) | (flags == _MIDDLE))], False
    ends[rows] = sizes[rows]
    return ends


def begin_here(heads: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """(N,) whether records begin with these heads, (N, 8) uint8."""
    magics, words = heads.view("<u4").T
    begin: npt.NDArray[np.bool_] = (magics == MAGIC) & (words >> 29 <= _FIRST)
    return begin


@dataclass(frozen=True, slots=True)
class Damage:
    """One stretch of a .rec that cannot be read back.

    A length that is too short cannot be told from a lost head: its record is kept, cut, and the
    damage begins where it seems to end.

    Attributes:
        offset: Where the damaged record starts, in bytes.
        resumed: Where the next readable record starts, or the file ends, in bytes.
        reason: What was expected and what was found.
    """

    offset: int
    resumed: int
    reason: str


def scan(path: str | os.PathLike[str]) -> npt.NDArray[np.int64]:
    """(N,) int64, where each record of a .rec starts, in bytes, ascending.

    Every head is checked, those of split parts included; payloads are not looked at.

    Raises:
        CorruptRecordError: The first damage in the file. `verify` finds all of it.
    """
    with RecordFile(path) as file:
        return _Scan(file, strict=True).run()


def verify(
    path: str | os.PathLike[str], start: int = 0
) -> tuple[npt.NDArray[np.int64], list[Damage]]:
    """(N,) int64 starts of the records that can be read back, and what is damaged between them.

    Args:
        path: The .rec.
        start: Where to begin, a multiple of 4 bytes: at a record, or where one may be.
    """
    with RecordFile(path) as file:
        walk = _Scan(file, strict=False, start=start)
        return walk.run(), walk.damages


class _Scan:
    """A walk from head to head.

    Heads in a window are found all at once as its aligned magics. Then the chain is followed, a
    part ending where the next begins, so that a magic which a careless writer left in a payload
    is stepped over, as a reader that goes by the lengths does.
    """

    def __init__(self, file: RecordFile, *, strict: bool, start: int = 0) -> None:
        self.file = file
        self.strict = strict
        self.offsets = array("q")
        self.damages: list[Damage] = []
        self.position = start  # where the next part must start
        self.inside = False  # a split record: its head is the last of `offsets`
        self.resumed = start  # where the walk last began anew

    def run(self) -> npt.NDArray[np.int64]:
        window = memoryview(bytearray(_LARGE_WINDOW))
        reach = _SPARSE
        # The size is asked for each time: a file that is cut meanwhile must not hold us up.
        while self.position < (size := self.file.size) or self.inside:
            if reach == _SMALL_WINDOW and not self.inside and self._hop(size):
                continue
            start, count, damaged = self.position, len(self.offsets), len(self.damages)
            nbytes = self.file.bytes.readinto(window[:reach], start)
            self._follow(np.frombuffer(window, "<u4", nbytes // 4), size)
            dense = self.position - start < _SPARSE * (len(self.offsets) - count)
            # After damage there may be more of it: a window is read for each.
            sound = len(self.damages) == damaged
            reach = _LARGE_WINDOW if dense and sound else _SMALL_WINDOW
        return np.frombuffer(self.offsets, np.int64)

    def _hop(self, size: int) -> bool:
        """Go on over large whole records, reading heads alone; False if there is none here."""
        start = position = self.position
        while len(head := self.file.bytes.pread(HEAD_NBYTES, position)) == HEAD_NBYTES:
            magic, word = _HEAD.unpack(head)
            end = position + HEAD_NBYTES + _padded(word)
            # A word beyond MAX_PAYLOAD carries a flag.
            if magic != MAGIC or not _SMALL_WINDOW <= word <= MAX_PAYLOAD or end > size:
                break
            self.offsets.append(position)
            position = end
        self.position = position
        return position > start

    def _follow(self, words: npt.NDArray[np.uint32], size: int) -> None:
        """Go on through the window `words`, which starts at `position`, to the first damage."""
        base, limit = self.position, self.position + 4 * len(words)
        if len(words) < 2:
            self._damaged(_truncated_head(size - base))
            return
        places = np.flatnonzero(words[:-1] == MAGIC)
        heads = words[places + 1]
        flags: npt.NDArray[np.uint32] = heads >> np.uint32(29)
        starts = base + 4 * places
        ends = starts + HEAD_NBYTES + ((heads & MAX_PAYLOAD).astype(np.int64) + 3 & ~3)
        breaks = np.flatnonzero(starts[1:] != ends[:-1])
        while self.position + HEAD_NBYTES <= limit:
            first = int(np.searchsorted(starts, self.position))
            if first == len(starts) or starts[first] != self.position:
                self._damaged(_wrong_magic(int(words[(self.position - base) // 4])))
                return
            link = int(np.searchsorted(breaks, first))
            last = int(breaks[link]) if link < len(breaks) else len(starts) - 1
            if not self._accept(starts[first : last + 1], flags[first : last + 1]):
                return
            self.position = int(ends[last])
            if self.position > size:
                self.position = int(starts[last])
                nbytes = int(ends[last] - starts[last]) - HEAD_NBYTES
                found = size - self.position - HEAD_NBYTES
                self._damaged(_truncated(nbytes, found), truncated=True)
                return

    def _accept(self, starts: npt.NDArray[np.int64], flags: npt.NDArray[np.uint32]) -> bool:
        """Note the records that begin among these neighbouring parts; False after damage."""
        if not self.inside and not flags.any():
            self.offsets.frombytes(starts.tobytes())
            return True
        opens = (flags == _FIRST) | (flags == _MIDDLE)
        continues = flags >= _MIDDLE
        inside = np.concatenate(([self.inside], opens[:-1]))
        wrong = np.flatnonzero((flags > _LAST) | (continues != inside))
        good = int(wrong[0]) if wrong.size else len(flags)
        self.offsets.frombytes(starts[:good][~continues[:good]].tobytes())
        if good == len(flags):
            self.inside = bool(opens[-1])
            return True
        self.inside = bool(inside[good])
        self.position = int(starts[good])
        self._damaged(_wrong_flag(int(flags[good]), begins=not self.inside))
        return False

    def _damaged(self, reason: str, *, truncated: bool = False) -> None:
        """Raise, or drop what is damaged and move on to the next head.

        Args:
            reason: What is wrong with the part at `position`.
            truncated: The last record runs past the end of the file.
        """
        inherited = self.inside or truncated  # the record before `position` is the damaged one
        offset = self.offsets[-1] if inherited else self.position
        at = self.position - offset
        error = _corrupt(reason, path=self.file.path, record=offset, at=at)
        if self.strict:
            raise error
        reason = error.reason
        # The wrong length of a record leads to a place without a head, too. So the search starts
        # inside the record before, unless that was read before an earlier damage.
        before = self.offsets[-1] if self.offsets and self.offsets[-1] >= self.resumed else None
        start = self.position + 4 if before is None else before + HEAD_NBYTES
        resumed = self.file.find_head(start)
        if before is not None and not inherited and resumed < self.position:
            offset, inherited = before, True
            reason = f"its length leads to byte {self.position}, past the record at byte {resumed}"
        if inherited:
            self.offsets.pop()
        self.damages.append(Damage(offset, resumed, reason))
        self.position = self.resumed = resumed
        self.inside = False


def _parse_head(
    head: ReadableBuffer, *, begins: bool, path: str, record: int, at: int
) -> tuple[int, int]:
    """Flag and length of the part that is `at` bytes into `record`."""
    found = len(memoryview(head))
    if found < HEAD_NBYTES:
        raise _corrupt(_truncated_head(found), path=path, record=record, at=at)
    magic, word = _HEAD.unpack(head)
    if magic != MAGIC:
        raise _corrupt(_wrong_magic(magic), path=path, record=record, at=at)
    flag, length = word >> 29, word & MAX_PAYLOAD
    if flag > _LAST or (flag <= _FIRST) != begins:
        raise _corrupt(_wrong_flag(flag, begins=begins), path=path, record=record, at=at)
    return flag, length


def _corrupt(reason: str, *, path: str, record: int, at: int) -> CorruptRecordError:
    """The error for the part that is `at` bytes into `record`."""
    if at:
        reason = f"part at byte {record + at}: {reason}"
    return CorruptRecordError(reason, path=path, offset=record)


def _padded(length: int) -> int:
    return (length + 3) & ~3


def _wrong_magic(found: int) -> str:
    return f"magic is {found:#010x}, not {MAGIC:#010x}"


def _wrong_flag(found: int, *, begins: bool) -> str:
    return f"flag is {found}, not {'0 or 1' if begins else '2 or 3'}"


def _truncated_head(found: int) -> str:
    return f"head of {HEAD_NBYTES} bytes, {found} found"


def _truncated(expected: int, found: int) -> str:
    return f"payload of {expected} bytes with its padding, {found} found"
