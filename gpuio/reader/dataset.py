"""A data set of one or more .rec files: which records there are, and where each one lies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.format.index import Index
from gpuio.format.recordio import open_records
from gpuio.location import is_url
from gpuio.ordered import in_order
from gpuio.reader.index_cache import JoinedIndex, join, keep
from gpuio.shards import PathLike as PathLike
from gpuio.shards import beside, exist, find_files, sizes_of

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE = 16  # files at URLs whose index is read side by side
_SAMPLE = 1000  # records whose places are part of the fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Records of all files, numbered from 0 in the order in which they lie in them.

    Attributes:
        paths: The .rec files.
        sizes: (files,) int64, bytes in each.
        first: (files + 1,) int64, number of the first record of each file.
        offsets: (count,) int64, where each record starts in its file, in bytes.
        keys: (count,) int64 keys of the .idx; None where there is none.
    """

    paths: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def open(
        cls,
        path_imgrec: PathLike | Sequence[PathLike],
        path_imgidx: PathLike | Sequence[PathLike] = "",
    ) -> Dataset:
        """Find the files and their index.

        Args:
            path_imgrec: A file or several, as `find_files` takes them: a list, braces, a glob
                pattern, a folder.
            path_imgidx: As many .idx files, given the same way; or one for all, with offsets
                into the files one after the other. By default those beside the .rec files; if
                one has none, the .rec files are gone through.

        Raises:
            FileNotFoundError: There is no such file, or one of a set of shards is missing.
            FormatError: A file is not what it should be, or holds no record.
        """
        recs = find_files(path_imgrec, ".rec")
        sizes = sizes_of(recs)
        idxs = find_files(path_imgidx, ".idx") if path_imgidx else _beside(recs)
        joined = _load(recs, idxs, sizes) if idxs else join(_each(Index.scan, recs, recs))
        index = joined.index
        if not len(index):
            raise FormatError(f"{'; '.join(recs)}: no record in it")
        keys = index.keys if idxs else None
        return cls(tuple(recs), np.array(sizes, np.int64), joined.first, index.offsets, keys)

    def file_of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(N,) int64, the file that holds each of (N,) records."""
        return np.searchsorted(self.first, ids, side="right") - 1

    def nbytes(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(N,) int64, bytes from the start of each of (N,) records to that of the next.

        The last one of a file goes to its end; records that the index leaves out count to the one
        before them.
        """
        number = self.file_of(ids)
        stop, offsets, last = self.first[number + 1], self.offsets[ids], len(self) - 1
        after = ids + 1
        # Several lines of an index may name one record.
        while ((after < stop) & (same := self.offsets[np.minimum(after, last)] == offsets)).any():
            after = after + same
        following = self.offsets[np.minimum(after, last)]
        return np.where(after < stop, following, self.sizes[number]) - offsets

    def fingerprint(self) -> int:
        """A number of 48 bits that tells this data set from others.

        It is made from sizes of files and places of records: the same wherever the files lie, and
        whether they have an index or not.
        """
        some = np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(np.int64)
        digest = blake2b(digest_size=6)
        for numbers in (self.sizes, self.first, self.offsets[some]):
            digest.update(numbers.astype("<i8").tobytes())
        return int.from_bytes(digest.digest())

    def where(self, record: int) -> str:
        """Path and offset of a record, for messages."""
        path = self.paths[int(self.file_of(np.array([record]))[0])]
        return f"{path}: record {record} at byte {self.offsets[record]}"

    def payload(self, record: int) -> bytes:
        """The payload of one record, read by itself.

        Raises:
            CorruptRecordError: It is damaged.
        """
        path = self.paths[int(self.file_of(np.array([record]))[0])]
        with open_records(path) as file:
            return file.read(int(self.offsets[record]))[0]


def _beside(recs: list[str]) -> list[str]:
    """The .idx of each file; none, if one has none."""
    idxs = [beside(rec, ".idx") for rec in recs]
    return idxs if exist(idxs) else []


def _load(recs: list[str], idxs: list[str], sizes: list[int]) -> JoinedIndex:
    """The index of all files, in the order in which records lie in them."""
    if len(idxs) not in (1, len(recs)):
        raise FormatError(
            f"path_imgidx names {len(idxs)} files for {len(recs)} .rec files: "
            "give one for each, or one for all"
        )
    named = idxs if len(idxs) == len(recs) else idxs * len(recs)

    def parse() -> list[Index]:
        parts = [part.sorted() for part in _each(Index.load, idxs, idxs)]
        if len(idxs) < len(recs):
            parts = _cut(parts[0], sizes)
        _each(_check, list(zip(recs, named, parts, strict=True)), recs)
        return parts

    if any(map(is_url, idxs)):
        return join(parse())
    joined = keep(idxs, sizes, parse)
    if joined.kept:
        # What was checked then is as it was; what may be new are files of the same sizes.
        bounds = zip(joined.first[:-1].tolist(), joined.first[1:].tolist(), strict=True)
        for rec, idx, (begin, end) in zip(recs, named, bounds, strict=True):
            ends = slice(begin, end, max(end - begin - 1, 1))
            Index(joined.index.keys[ends], joined.index.offsets[ends]).check(rec, idx=idx)
    return joined


def _check(given: tuple[str, str, Index]) -> None:
    rec, idx, part = given
    part.check(rec, idx=idx)


def _each(work: Callable[[T], R], items: Sequence[T], paths: Sequence[str]) -> list[R]:
    """`work` for each item; several at once where `paths` are URLs: most of it is waiting."""
    if not any(map(is_url, paths)):
        return [work(item) for item in items]
    return list(in_order(work, items, threads=_AT_ONCE, name="gpuio-index"))


def _cut(index: Index, sizes: list[int]) -> list[Index]:
    """One index over files laid end to end, as one index for each file."""
    starts = np.cumsum([0, *sizes])
    bounds = np.searchsorted(index.offsets, starts)
    bounds[-1] = len(index)
    return [
        Index(index.keys[begin:end], index.offsets[begin:end] - start)
        for begin, end, start in zip(bounds[:-1], bounds[1:], starts[:-1], strict=True)
    ]
