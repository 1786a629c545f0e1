"""`RecordTable`: where each record of several .rec files starts, and under which key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

from gpuio.core.parallel_map import in_order
from gpuio.formats.index import Index
from gpuio.storage.paths import is_url

Int64s = npt.NDArray[np.int64]
T = TypeVar("T")
R = TypeVar("R")

_SAMPLE: Final = 1000  # records whose places are part of the fingerprint
_AT_ONCE: Final = 16  # files at URLs that are looked into side by side


@dataclass(frozen=True, slots=True, eq=False)
class RecordTable:
    """Records of several files, numbered from 0 in the order in which they lie in them.

    Attributes:
        paths: The .rec files.
        sizes: (files,) int64, bytes in each.
        first: (files + 1,) int64, number of the first record of each file.
        offsets: (count,) int64, where each record starts in its file, in bytes; ascending in each
            file, and equal where several entries of an index lead to one record.
        keys: (count,) int64, the key of each record; None if they have none.
    """

    paths: tuple[str, ...]
    sizes: Int64s
    first: Int64s
    offsets: Int64s
    keys: Int64s | None = None

    @classmethod
    def join(
        cls, paths: Sequence[str], sizes: Sequence[int], parts: Sequence[Index]
    ) -> RecordTable:
        """The records of files one after the other.

        Args:
            paths: The .rec files.
            sizes: Bytes in each.
            parts: The index of each, in the order in which the records lie in it.
        """
        first = np.cumsum([0, *map(len, parts)])
        offsets, keys = parts[0].offsets, parts[0].keys
        if len(parts) > 1:
            offsets = np.concatenate([part.offsets for part in parts])
            keys = np.concatenate([part.keys for part in parts])
        return cls(tuple(paths), np.array(sizes, np.int64), first, offsets, keys)

    def __len__(self) -> int:
        return len(self.offsets)

    def file_of(self, ids: Int64s) -> Int64s:
        """(N,) int64, the number of the file that holds each of (N,) records."""
        return np.searchsorted(self.first, ids, side="right") - 1

    def place_of(self, record: int) -> tuple[int, int]:
        """The number of the file that holds a record, and where it starts there, in bytes."""
        number = int(np.searchsorted(self.first, record, side="right")) - 1
        return number, int(self.offsets[record])

    def offsets_of(self, number: int) -> Int64s:
        """(count,) int64, where the records of a file start, in bytes."""
        return self.offsets[self.first[number] : self.first[number + 1]]

    def where(self, record: int) -> str:
        """Path, number and offset of a record, for messages."""
        number, offset = self.place_of(record)
        return f"{self.paths[number]}: record {record} at byte {offset}"

    def distances(self, ids: Int64s) -> Int64s:
        """(N,) int64, bytes from the start of each of (N,) records to that of the next.

        The last record of a file goes to its end; records that an index leaves out count to the one
        before them.
        """
        numbers = self.file_of(ids)
        stop, starts, last = self.first[numbers + 1], self.offsets[ids], len(self) - 1
        after = ids + 1
        repeated = np.flatnonzero(
            (after < stop) & (self.offsets[np.minimum(after, last)] == starts)
        )
        for number in set(numbers[repeated].tolist()):
            rows = repeated[numbers[repeated] == number]
            following = np.searchsorted(self.offsets_of(number), starts[rows], side="right")
            after[rows] = self.first[number] + following
        ends = self.offsets[np.minimum(after, last)]
        return np.where(after < stop, ends, self.sizes[numbers]) - starts

    def fingerprint(self) -> int:
        """A 48-bit number by which saved states recognize this table.

        It is made from the sizes of the files and the offsets of records: the same wherever the
        files lie, and whether they have an index or not.
        """
        some = np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(np.int64)
        digest = blake2b(digest_size=6)
        for numbers in (self.sizes, self.first, self.offsets[some]):
            digest.update(numbers.astype("<i8").tobytes())
        return int.from_bytes(digest.digest())


def for_each(work: Callable[[T], R], items: Sequence[T], paths: Sequence[str]) -> list[R]:
    """`work` for each item; several at once where `paths` are URLs, which is mostly waiting."""
    if not any(map(is_url, paths)):
        return [work(item) for item in items]
    return list(in_order(work, items, threads=_AT_ONCE, name="gpuio-index"))
