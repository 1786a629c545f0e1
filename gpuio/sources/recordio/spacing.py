"""How far apart the records of an index lie, and whether that is how long they are.

An index says where records start. Where it names all of them, a record goes on to the next one, and
its length is known without a look at the file. An index may name some records only, though: then
the next one named may be gigabytes away, and the heads of the records must be read first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.core.parallel_map import in_order
from gpuio.formats.recordio import HEAD_NBYTES, RecordFile, begin_here, frame_ends
from gpuio.storage.paths import is_url

Int64s = npt.NDArray[np.int64]

_SAMPLE: Final = 10_000  # records whose distances are compared
_LOOKS: Final = 64  # records whose heads are read
_LOOKS_AT_URLS: Final = 16
_AT_ONCE: Final = 16  # files at URLs that are looked at side by side
_PLAUSIBLE: Final = 1 << 20  # bytes that are not too many for a record, whatever lies there


@dataclass(frozen=True, slots=True, eq=False)
class Spacing:
    """Which distances between records are taken for their lengths.

    Attributes:
        limit: The longest of these, in bytes; records that are farther from the next one have
            their heads read.
        lengths: (K,) int64, bytes on disk of some records.
    """

    limit: int
    lengths: Int64s


EXACT: Final = Spacing(np.iinfo(np.int64).max, np.zeros(0, np.int64))
"""Of records that were found by going through the files."""
DAMAGED: Final = Spacing(_PLAUSIBLE, np.zeros(0, np.int64))
"""The same, where damage was left out: what is damaged counts to the record before."""


def distances(ids: Int64s, first: Int64s, sizes: Int64s, offsets: Int64s) -> Int64s:
    """(N,) int64, bytes from the start of each of (N,) records to that of the next.

    The last one of a file goes to its end. Several records may start at one place, since several
    lines of an index may name it.

    Args:
        ids: (N,) numbers of records.
        first: (files + 1,) number of the first record of each file.
        sizes: (files,) bytes in each.
        offsets: (count,) where the records start, ascending in each file.
    """
    number = np.searchsorted(first, ids, side="right") - 1
    stop, starts, last = first[number + 1], offsets[ids], len(offsets) - 1
    after = ids + 1
    repeated = np.flatnonzero((after < stop) & (offsets[np.minimum(after, last)] == starts))
    for file in set(number[repeated].tolist()):
        rows = repeated[number[repeated] == file]
        begin, end = first[file], first[file + 1]
        after[rows] = begin + np.searchsorted(offsets[begin:end], starts[rows], side="right")
    following = offsets[np.minimum(after, last)]
    return np.where(after < stop, following, sizes[number]) - starts


def look_at_spacing(
    paths: Sequence[str], first: Int64s, sizes: Int64s, offsets: Int64s
) -> tuple[Spacing, dict[int, int]]:
    """How the records of an index are spaced.

    The heads of some records are read, and of those that are farthest from the next one.

    Args:
        paths: The .rec files.
        first: As for `distances`; so are the others.
        sizes: Bytes in each file.
        offsets: Where the records start.

    Returns:
        The spacing; and by number of a file, where a record lies in it that the index leaves out.
    """
    count = len(offsets)
    some = np.linspace(0, count - 1, min(count, _SAMPLE)).astype(np.int64)
    apart = distances(some, first, sizes, offsets)
    far = any(map(is_url, paths))
    looks = _LOOKS_AT_URLS if far else _LOOKS
    if len(some) > looks:
        widest = np.argpartition(apart, -(looks // 2))[-(looks // 2) :]
        spread = np.linspace(0, len(some) - 1, looks // 2).astype(np.int64)
        chosen = np.zeros(len(some), bool)
        chosen[widest] = chosen[spread] = True
        some, apart = some[chosen], apart[chosen]
    numbers, starts = np.searchsorted(first, some, side="right") - 1, offsets[some]
    looked_at = sorted(set(numbers.tolist()))

    def look(number: int) -> tuple[Int64s, int | None]:
        named = offsets[first[number] : first[number + 1]]
        return _look(paths[number], starts[numbers == number], named, int(sizes[number]))

    ends, gaps = np.zeros_like(starts), {}
    if far:  # most of it is waiting
        found = [*in_order(look, looked_at, threads=_AT_ONCE, name="gpuio-index")]
    else:
        found = [look(number) for number in looked_at]
    for number, (stops, gap) in zip(looked_at, found, strict=True):
        ends[numbers == number] = stops
        if gap is not None:
            gaps[number] = gap
    lengths = (ends - starts)[ends > 0]
    if gaps:
        return Spacing(0, lengths), gaps
    longest = int(apart[ends == starts + apart].max(initial=0))
    return Spacing(max(longest, _PLAUSIBLE), lengths), gaps


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
            words = np.zeros((len(places), 2), np.uint32)
            within = np.flatnonzero(places + HEAD_NBYTES <= size)
            within = within[np.argsort(places[within])]
            words[within] = file.bytes.gather(places[within], HEAD_NBYTES).view("<u4")
            return words

        ends = frame_ends(starts, np.full(len(starts), size), read)
        after = np.sort(ends[(ends > 0) & (ends + HEAD_NBYTES <= size)])
        after = after[named[np.searchsorted(named, after) % len(named)] != after]
        left_out = after[begin_here(file.bytes.gather(after, HEAD_NBYTES))]
        return ends, int(left_out[0]) if len(left_out) else None
