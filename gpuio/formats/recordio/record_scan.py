"""Finding all records of a .rec file by their heads, and what is damaged between them."""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.formats.recordio.framing import (
    HEAD,
    HEAD_NBYTES,
    MAGIC,
    MAX_PAYLOAD,
    Flag,
    corrupt,
    padded,
    part_ends,
    truncated,
    truncated_head,
    wrong_flag,
    wrong_magic,
)
from gpuio.formats.recordio.record_file import RecordFile

# Records smaller than _SPARSE on average are read in full: one long read beats many short ones.
# Larger ones are skipped over, and a page is enough to see a head.
_SPARSE: Final = 64 << 10
_SMALL_WINDOW: Final = 4 << 10
_LARGE_WINDOW: Final = 1 << 20


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
        return _Walk(file, strict=True).run()


def verify(
    path: str | os.PathLike[str], start: int = 0
) -> tuple[npt.NDArray[np.int64], list[Damage]]:
    """(N,) int64 starts of the records that can be read back, and what is damaged between them.

    Args:
        path: The .rec.
        start: Offset of the first record in bytes, a multiple of 4; there need not be one there.
    """
    with RecordFile(path) as file:
        walk = _Walk(file, strict=False, start=start)
        return walk.run(), walk.damages


class _Walk:
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
        # The size is read anew each time: the file may be cut while it is scanned.
        while self.position < (size := self.file.size) or self.inside:
            if reach == _SMALL_WINDOW and not self.inside and self._hop(size):
                continue
            start, count, damaged = self.position, len(self.offsets), len(self.damages)
            nbytes = self.file.bytes.readinto(window[:reach], start)
            self._follow(np.frombuffer(window, "<u4", nbytes // 4), size)
            dense = self.position - start < _SPARSE * (len(self.offsets) - count)
            # After damage there may be more of it: a window is read for each.
            intact = len(self.damages) == damaged
            reach = _LARGE_WINDOW if dense and intact else _SMALL_WINDOW
        return np.frombuffer(self.offsets, np.int64)

    def _hop(self, size: int) -> bool:
        """Go on over large whole records, reading heads alone; False if there is none here."""
        start = position = self.position
        while len(head := self.file.bytes.pread(HEAD_NBYTES, position)) == HEAD_NBYTES:
            magic, word = HEAD.unpack(head)
            end = position + HEAD_NBYTES + padded(word)
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
            self._damaged(truncated_head(size - base))
            return
        places = np.flatnonzero(words[:-1] == MAGIC)
        heads = words[places + 1]
        flags: npt.NDArray[np.uint32] = heads >> np.uint32(29)
        starts = base + 4 * places
        ends = part_ends(starts, heads)
        breaks = np.flatnonzero(starts[1:] != ends[:-1])
        while self.position + HEAD_NBYTES <= limit:
            first = int(np.searchsorted(starts, self.position))
            if first == len(starts) or starts[first] != self.position:
                self._damaged(wrong_magic(int(words[(self.position - base) // 4])))
                return
            following = breaks[np.searchsorted(breaks, first) :]
            last = int(following[0]) if len(following) else len(starts) - 1
            if not self._accept(starts[first : last + 1], flags[first : last + 1]):
                return
            self.position = int(ends[last])
            if self.position > size:
                self.position = int(starts[last])
                nbytes = int(ends[last] - starts[last]) - HEAD_NBYTES
                found = size - self.position - HEAD_NBYTES
                self._damaged(truncated(nbytes, found), truncated=True)
                return

    def _accept(self, starts: npt.NDArray[np.int64], flags: npt.NDArray[np.uint32]) -> bool:
        """Note the records that begin among these neighbouring parts; False after damage."""
        if not self.inside and not flags.any():
            self.offsets.frombytes(starts.tobytes())
            return True
        opens = (flags == Flag.FIRST) | (flags == Flag.MIDDLE)
        continues = flags >= Flag.MIDDLE
        inside = np.concatenate(([self.inside], opens[:-1]))
        wrong = np.flatnonzero((flags > Flag.LAST) | (continues != inside))
        good = int(wrong[0]) if wrong.size else len(flags)
        self.offsets.frombytes(starts[:good][~continues[:good]].tobytes())
        if good == len(flags):
            self.inside = bool(opens[-1])
            return True
        self.inside = bool(inside[good])
        self.position = int(starts[good])
        self._damaged(wrong_flag(int(flags[good]), begins=not self.inside))
        return False

    def _damaged(self, reason: str, *, truncated: bool = False) -> None:
        """Raise, or drop what is damaged and move on to the next head.

        `reason` is about the part at `position`; `truncated` is a last record that the file cuts.
        """
        inherited = self.inside or truncated  # the record before `position` is the damaged one
        offset = self.offsets[-1] if inherited else self.position
        at = self.position - offset
        error = corrupt(reason, path=self.file.path, record=offset, at=at)
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
