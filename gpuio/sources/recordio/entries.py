"""Where the records of .rec files lie: by their index, or by a scan of the files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from gpuio.core.parallel_map import in_order
from gpuio.errors import CorruptRecordError, FormatError, GpuioError
from gpuio.formats.index import Index
from gpuio.formats.index_fit import Coverage, advice, check_fit, impossible, whole_entries
from gpuio.formats.recordio import verify
from gpuio.sources.base import Losses
from gpuio.sources.recordio.index_cache import JoinedIndex, join, load_cached
from gpuio.sources.recordio.spacing import DAMAGED, EXACT, Spacing, look_at_spacing
from gpuio.sources.recordio.table import RecordTable
from gpuio.storage.paths import is_url

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 16  # files at URLs whose index is read side by side
_DESCRIBED: Final = 20  # damaged places that are described
_WARNED: Final = 3  # files that have a warning of their own


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Where the records of several files lie.

    Attributes:
        joined: The records of all files; their keys have a meaning only if `keyed`.
        table: The same records, without keys.
        keyed: Whether all of them come from .idx files.
        spacing: How the records are spaced.
        losses: The records that are left out.
    """

    joined: JoinedIndex
    table: RecordTable
    keyed: bool
    spacing: Spacing
    losses: Losses


def find_entries(
    recs: Sequence[str], idxs: Sequence[str], sizes: Sequence[int], *, asked: bool, strict: bool
) -> Entries:
    """Find the records of some files.

    Args:
        recs: The .rec files.
        idxs: An .idx for each, one for all of them laid end to end, or none.
        sizes: Bytes in each .rec.
        asked: Whether the .idx files were asked for, and not only found beside the .rec files.
            Records that they leave out are left out then; otherwise such a .rec is scanned.
        strict: Whether damage is an error; otherwise damaged records are left out.

    Raises:
        FormatError: A file is not what it should be.
    """
    finder = _Finder(recs, idxs, sizes, asked=asked, strict=strict)
    return finder.by_index() if idxs else finder.by_scan()


class _Finder:
    """Finds the records of some files; see `find_entries` for the arguments."""

    def __init__(
        self,
        recs: Sequence[str],
        idxs: Sequence[str],
        sizes: Sequence[int],
        *,
        asked: bool,
        strict: bool,
    ) -> None:
        if len(idxs) not in (0, 1, len(recs)):
            raise FormatError(
                f"path_imgidx names {len(idxs)} files for {len(recs)} .rec files: "
                "give one for each, or one for all"
            )
        self._recs, self._idxs, self._sizes = recs, idxs, sizes
        self._idx_of = [*idxs] if len(idxs) == len(recs) else [*idxs] * len(recs)
        self._asked, self._strict = asked, strict
        self._losses = Losses()

    def by_scan(self) -> Entries:
        """The records found by going through the files."""
        recs = self._recs
        if self._strict:
            return self._entries(join(_each(Index.scan, recs, recs)), EXACT, keyed=False)
        joined = join([self._add_losses(*found) for found in _each(_scan_whole, recs, recs)])
        return self._entries(joined, DAMAGED if self._losses.count else EXACT, keyed=False)

    def by_index(self) -> Entries:
        """The records that the .idx files name; of others see `find_entries`."""
        coverage: list[Coverage | None]
        try:
            joined, coverage = self._load()
        except FormatError:
            if self._strict:
                raise
            joined, coverage = self._load_whole()
        spacing, gaps = self._look_at_spacing(joined)
        found = self._entries(joined, spacing, keyed=self._asked or None not in coverage)
        unnamed = {n: _Unnamed.of(c) for n, c in enumerate(coverage) if c and not c.is_complete}
        if not self._asked:
            for number, place in gaps.items():
                known = unnamed.get(number)
                where = known.where if known else f"what follows byte {place}"
                unnamed[number] = _Unnamed(where)
            return self._complete(found, unnamed)
        if not self._losses.count:
            _warn(
                [
                    f"{self._idx_of[n]} names no record in {part.where} of {self._recs[n]}, which "
                    "is not read; if it should be, make a new index with "
                    f"{advice(self._recs[n], self._idx_of[n])}"
                    for n, part in unnamed.items()
                ]
            )
        return found

    def _load(self) -> tuple[JoinedIndex, list[Coverage | None]]:
        """The index of all files, from the cache if there is one, and the parts that it names.

        Raises:
            FormatError: A .idx is not the index of its .rec.
        """
        coverage: list[Coverage | None] = []

        def parse() -> list[Index]:
            parts = self._parse()
            rows = [*zip(self._recs, self._idx_of, parts, strict=True)]
            coverage[:] = _each(lambda row: check_fit(row[2], row[0], row[1]), rows, self._recs)
            return parts

        if any(map(is_url, self._idxs)):
            return join(parse()), coverage
        joined = load_cached(self._idxs, self._sizes, parse)
        if joined.cached:
            # It was checked when it was parsed; but a .rec of the same size may be a new one.
            for rec, idx, part in zip(self._recs, self._idx_of, joined.parts(), strict=True):
                ends = slice(None, None, max(len(part) - 1, 1))
                coverage.append(check_fit(Index(part.keys[ends], part.offsets[ends]), rec, idx))
        return joined, coverage

    def _load_whole(self) -> tuple[JoinedIndex, list[Coverage | None]]:
        """The entries of indexes that may be whole records, and the parts that they name.

        An index that belongs to another file, and was not asked for, is not used at all: the file
        is scanned, and None stands for the part that is named.
        """
        parts: list[Index] = []
        coverage: list[Coverage | None] = []
        rows = zip(self._recs, self._idx_of, self._sizes, self._parse(), strict=True)
        for rec, idx, size, part in rows:
            kept = self._add_losses(*_without_lost(part, rec, idx, size))
            try:
                coverage.append(check_fit(kept, rec, idx))
            except FormatError as error:
                coverage.append(None)
                if not self._asked:
                    _warn(
                        [f"{error}; it is not used, and all of {rec} is read to find the records"]
                    )
                    kept = self._add_losses(*_scan_whole(rec))
            parts.append(kept)
        return join(parts), coverage

    def _parse(self) -> list[Index]:
        """The index of each file, in the order in which the records lie in it."""
        parts = [part.sorted() for part in _each(Index.load, self._idxs, self._idxs)]
        return _cut(parts[0], self._sizes) if len(self._idxs) < len(self._recs) else parts

    def _complete(self, found: Entries, unnamed: dict[int, _Unnamed]) -> Entries:
        """The records of indexes that were not asked for, and those that these leave out.

        Args:
            found: The records that the .idx files name.
            unnamed: By number of a file, the part of it that its index does not name.
        """
        parts, messages, stale = found.joined.parts(), [], False
        for number, unread in unnamed.items():
            rec, idx, part = self._recs[number], self._idx_of[number], parts[number]
            missing = 0
            if not unread.begin or len(verify(rec, unread.begin)[0]):
                whole, damage = _scan_whole(rec)
                missing = len(np.setdiff1d(whole.offsets, part.offsets))
            if not missing:
                if not self._losses.count:
                    where = f"{unread.where} of {rec}"
                    messages.append(f"{idx} does not name {where}: no whole record is there")
                continue
            if self._strict and damage.count:
                raise damage.faults[0]
            messages.append(
                f"{idx} is not used: it does not name {missing} of {len(whole)} records of {rec}, "
                f"in {unread.where}. It may be that of an older file: make a new one with "
                f"{advice(rec, idx)}"
            )
            parts[number], stale = self._add_losses(whole, damage), True
        _warn(messages)
        if not stale:
            return found
        joined = join(parts)
        return self._entries(joined, self._look_at_spacing(joined)[0], keyed=False)

    def _look_at_spacing(self, joined: JoinedIndex) -> tuple[Spacing, dict[int, int]]:
        return look_at_spacing(self._table(joined)) if len(joined.index) else (EXACT, {})

    def _table(self, joined: JoinedIndex) -> RecordTable:
        sizes = np.array(self._sizes, np.int64)
        return RecordTable(tuple(self._recs), sizes, joined.first, joined.index.offsets)

    def _entries(self, joined: JoinedIndex, spacing: Spacing, *, keyed: bool) -> Entries:
        return Entries(joined, self._table(joined), keyed, spacing, self._losses)

    def _add_losses(self, part: Index, losses: Losses) -> Index:
        """`part`, after a warning that tells what was left out of it."""
        if losses.count:
            whole = f"{losses.count} such places are left out, and {len(part)} records are whole"
            _warn([f"{losses.faults[0]}; {whole}"])
            self._losses.count += losses.count
            self._losses.faults += losses.faults
        return part


@dataclass(frozen=True, slots=True)
class _Unnamed:
    """A part of a .rec that its index does not name.

    Attributes:
        where: Which part, for messages.
        begin: Where to look for records, in bytes; 0 for the whole file.
    """

    where: str
    begin: int = 0

    @classmethod
    def of(cls, coverage: Coverage) -> _Unnamed:
        """The part before the records that are named, else the one after them."""
        if coverage.start:
            return cls(f"the first {coverage.start} bytes")
        return cls(f"the last {coverage.size - coverage.end} bytes", coverage.end)


def _scan_whole(rec: str) -> tuple[Index, Losses]:
    """The whole records of a .rec, found by a scan, and the damage between them."""
    index, damages = Index.scan_whole(rec)
    faults: list[GpuioError] = [
        CorruptRecordError(f"{d.reason}; lost until byte {d.resumed}", path=rec, offset=d.offset)
        for d in damages[:_DESCRIBED]
    ]
    return index, Losses(len(damages), faults)


def _without_lost(part: Index, rec: str, idx: str, size: int) -> tuple[Index, Losses]:
    """The entries of an index that may be whole records of a .rec, and why others cannot be."""
    whole = whole_entries(part, rec)
    lost = np.flatnonzero(~whole)
    faults: list[GpuioError] = [
        FormatError(f"{rec}: {impossible(part, place, idx, size)}")
        for place in lost[:_DESCRIBED].tolist()
    ]
    return Index(part.keys[whole], part.offsets[whole]), Losses(len(lost), faults)


def _each(work: Callable[[T], R], items: Sequence[T], paths: Sequence[str]) -> list[R]:
    """`work` for each item; several at once where `paths` are URLs, which is mostly waiting."""
    if not any(map(is_url, paths)):
        return [work(item) for item in items]
    return list(in_order(work, items, threads=_AT_ONCE, name="gpuio-index"))


def _cut(index: Index, sizes: Sequence[int]) -> list[Index]:
    """One index over files laid end to end, as one index for each file."""
    starts = np.cumsum([0, *sizes])
    bounds = np.searchsorted(index.offsets, starts)
    bounds[-1] = len(index)
    return [
        Index(index.keys[begin:end], index.offsets[begin:end] - start)
        for begin, end, start in zip(bounds[:-1], bounds[1:], starts[:-1], strict=True)
    ]


def _warn(messages: Sequence[str]) -> None:
    """Warn with the messages of the first files, and the number of the others."""
    for message in messages[:_WARNED]:
        warnings.warn(message, stacklevel=2)
    if len(messages) > _WARNED:
        warnings.warn(f"the same of {len(messages) - _WARNED} more files", stacklevel=2)
