"""Whether an index and a .rec belong together, and which part of the .rec the index names.

Only the heads of a few records are read. `gpuio verify` reads them all.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import CorruptRecordError, FormatError
from gpuio.formats.index import Index
from gpuio.formats.recordio import HEAD_NBYTES, RecordFile
from gpuio.storage.paths import is_url

_SEARCHED: Final = 64 << 20  # bytes of a .idx up to which a line is looked for


@dataclass(frozen=True, slots=True)
class Coverage:
    """The part of a .rec that its index names.

    Attributes:
        start: Where the first record of the index starts, in bytes.
        end: Where its last record ends, in bytes.
        size: Size of the .rec in bytes.
    """

    start: int
    end: int
    size: int

    @property
    def is_complete(self) -> bool:
        """Whether no byte lies before the first record or after the last one."""
        return self.start == 0 and self.end >= self.size

    @property
    def unnamed(self) -> str:
        """The part before the records that are named, else the one after them, for messages."""
        if self.start:
            return f"the first {self.start} bytes"
        return f"the last {self.size - self.end} bytes"


def check_fit(index: Index, rec: str, idx: str) -> Coverage:
    """Check that an index belongs to a .rec, without reading all of the file.

    Args:
        index: The index, in any order.
        rec: The .rec.
        idx: Where the index comes from, for messages.

    Returns:
        The part of the .rec that the index names.

    Raises:
        FormatError: The .rec is shorter than its index, or an offset cannot be one of its records,
            or no record is at the first or the last one.
    """
    offsets = index.offsets
    with RecordFile(rec) as file:
        size = file.size
        if not len(offsets):
            return Coverage(0, 0, size)
        first, last = int(offsets.min()), int(offsets.max())
        # These passes need no memory; the wrong offset is searched for only if there is one.
        if first < 0 or np.bitwise_or.reduce(offsets) % 4:
            place = int(np.argmax((offsets < 0) | (offsets % 4 != 0)))
            raise FormatError(_mismatch(rec, idx, impossible(index, place, idx, size)))
        if last <= size - HEAD_NBYTES and not file.is_cut_off(last):
            try:
                file.end(first)
                return Coverage(first, file.end(last), size)
            except CorruptRecordError as error:
                line = line_of(index, int(np.argmax(offsets == error.offset)), idx)
                reason = f"no record is at byte {error.offset}: {error.reason}{line}"
                raise FormatError(_mismatch(rec, idx, reason)) from error
    whole = whole_entries(index, rec)
    place = int(np.argmin(whole))
    if not whole.any():
        raise FormatError(_mismatch(rec, idx, impossible(index, place, idx, size)))
    raise FormatError(
        f"{rec} is shorter than its index: {int(whole.sum())} of {len(whole)} records are whole "
        f"({impossible(index, place, idx, size)}), or {idx} is not the index of {rec}; copy the "
        f".rec once more, read the whole records with on_error='skip', or make a new index with "
        f"{advice(rec, idx)}"
    )


def whole_entries(index: Index, rec: str) -> npt.NDArray[np.bool_]:
    """(N,) bool, whether each entry can be a whole record of a .rec, by its offset.

    The head of the last one is read too: it shows whether the file ends before the record does.
    """
    offsets = index.offsets
    with RecordFile(rec) as file:
        fits: npt.NDArray[np.bool_] = (offsets >= 0) & (offsets % 4 == 0)
        fits &= offsets <= file.size - HEAD_NBYTES
        last = int(offsets.max(initial=-1, where=fits))
        if last >= 0 and file.is_cut_off(last):
            fits &= offsets < last
    return fits


def impossible(index: Index, place: int, idx: str, size: int) -> str:
    """Why the entry at `place` of an index cannot be a record of a file of `size` bytes."""
    offset = int(index.offsets[place])
    line = line_of(index, place, idx)
    if 0 <= offset <= size - HEAD_NBYTES and not offset % 4:
        return f"the file ends inside the record at byte {offset}{line}"
    return f"no record can be at byte {offset} of a file of {size} bytes{line}"


def line_of(index: Index, place: int, idx: str) -> str:
    """The line of a .idx that an entry comes from, as " (line 7 of a.idx)"; "" if unknown."""
    entry = int(index.keys[place]), int(index.offsets[place])
    try:
        if is_url(idx) or os.path.getsize(idx) > _SEARCHED:  # noqa: PTH202
            return ""
        with open(idx, "rb") as file:  # noqa: PTH123
            text = file.read()
    except OSError:
        return ""
    line = rb"^[ \t]*\+?0*%d[ \t]+\+?0*%d[ \t\r]*$" % entry
    found = re.search(line, text, re.MULTILINE)
    if found is None:
        return ""
    number = text.count(b"\n", 0, found.start()) + 1
    return f" (line {number} of {idx})"


def advice(rec: str, idx: str) -> str:
    """The command that makes a new index."""
    return f"`gpuio rec2idx {shlex.quote(rec)} {shlex.quote(idx)}`"


def _mismatch(rec: str, idx: str, reason: str) -> str:
    return f"{idx} is not the index of {rec}: {reason}; make a new one with {advice(rec, idx)}"
