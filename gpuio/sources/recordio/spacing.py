"""How far apart the records of an index lie, and whether that is how long they are.

An index says where records start. If it names all of them, each record ends where the next one
starts, and its length is known without a look at the file. If it names some records only, the next
one named may be gigabytes away, and the heads of the records must be read first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.formats.recordio import HEAD_NBYTES, RecordFile, begin_here, frame_ends
from gpuio.sources.recordio.table import RecordTable, for_each
from gpuio.storage.paths import is_url

Int64s = npt.NDArray[np.int64]

_SAMPLE: Final = 10_000  # records whose distances are compared
_LOOKS: Final = 64  # records whose heads are read
_LOOKS_AT_URLS: Final = 16
_PLAUSIBLE: Final = 1 << 20  # bytes that are not too many for a record, whatever lies there


@dataclass(frozen=True, slots=True, eq=False)
class Spacing:
    """Which distances between records count as their lengths.

    Attributes:
        limit: The longest of these, in bytes; the heads of records that are farther from the next
            one must be read.
        lengths: (K,) int64, bytes on disk of some records.
    """

    limit: int
    lengths: Int64s


EXACT: Final = Spacing(np.iinfo(np.int64).max, np.zeros(0, np.int64))
"""The spacing of records that were found by a scan of the files."""
DAMAGED: Final = Spacing(_PLAUSIBLE, np.zeros(0, np.int64))
"""The same where damaged records were left out: these count to the record before."""


def look_at_spacing(table: RecordTable) -> tuple[Spacing, dict[int, int]]:
    """How the records of an index are spaced, judged by the heads of some of them.

    Those that are farthest from the next record are among them.

    Args:
        table: The records that the index names.

    Returns:
        The spacing; and by number of a file, where a record lies in it that the index leaves out.
    """
    if not len(table):
        return EXACT, {}
    some, apart = _chosen(table)
    numbers, starts = table.file_of(some), table.offsets[some]
    looked_at = sorted(set(numbers.tolist()))

    def look(number: int) -> tuple[Int64s, int | None]:
        named, size = table.offsets_of(number), int(table.sizes[number])
        return _look(table.paths[number], starts[numbers == number], named, size)

    ends, gaps = np.zeros_like(starts), {}
    found = for_each(look, looked_at, table.paths)
    for number, (stops, gap) in zip(looked_at, found, strict=True):
        ends[numbers == number] = stops
        if gap is not None:
            gaps[number] = gap
    lengths = (ends - starts)[ends > 0]
    if gaps:
        return Spacing(0, lengths), gaps
    longest = int(apart[ends == starts + apart].max(initial=0))
    return Spacing(max(longest, _PLAUSIBLE), lengths), gaps


def _chosen(table: RecordTable) -> tuple[Int64s, Int64s]:
    """(N,) records whose heads are read, and (N,) bytes from each to the next."""
    some = np.linspace(0, len(table) - 1, min(len(table), _SAMPLE)).astype(np.int64)
    apart = table.distances(some)
    looks = _LOOKS_AT_URLS if any(map(is_url, table.paths)) else _LOOKS
    if len(some) > looks:
        widest = np.argpartition(apart, -(looks // 2))[-(looks // 2) :]
        spread = np.linspace(0, len(some) - 1, looks // 2).astype(np.int64)
        chosen = np.zeros(len(some), bool)
        chosen[widest] = chosen[spread] = True
        some, apart = some[chosen], apart[chosen]
    return some, apart


def _look(path: str, starts: Int64s, named: Int64s, size: int) -> tuple[Int64s, int | None]:
    """Where records of a file end, and where a record lies that its index leaves out.

    Args:
        path: The .rec.
        starts: (N,) where the records start, ascending.
        named: Where all records of its index start, ascending.
        size: Bytes in the file.

    Returns:
        (N,) int64, 0 where there is no whole record; and None where no record is left out.
    """
    with RecordFile(path) as file:

        def read(_: Int64s, places: Int64s) -> npt.NDArray[np.uint32]:
            words, order = np.zeros((len(places), 2), np.uint32), np.argsort(places)
            words[order] = file.bytes.gather(places[order], HEAD_NBYTES).view("<u4")
            return words

        ends = frame_ends(starts, np.full(len(starts), size), read)
        after = np.sort(ends[(ends > 0) & (ends + HEAD_NBYTES <= size)])
        after = after[named[np.searchsorted(named, after) % len(named)] != after]
        left_out = after[begin_here(file.bytes.gather(after, HEAD_NBYTES))]
        return ends, int(left_out[0]) if len(left_out) else None
