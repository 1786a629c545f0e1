"""Where the records of .rec files lie: by their index, or by a scan of the files."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from gpuio.errors import CorruptRecordError, FormatError, GpuioError
from gpuio.formats.index import Index
from gpuio.formats.index_fit import Coverage, advice, check_fit, impossible, whole_entries
from gpuio.formats.recordio import verify
from gpuio.sources.base import Losses
from gpuio.sources.recordio.spacing import DAMAGED, EXACT, Spacing, look_at_spacing
from gpuio.sources.recordio.table import RecordTable, for_each

_DESCRIBED: Final = 20  # damaged places that are described
_WARNED: Final = 3  # files that have a warning of their own


def find_records(
    recs: Sequence[str], idxs: Sequence[str], sizes: Sequence[int], *, asked: bool, strict: bool
) -> tuple[RecordTable, Spacing, Losses]:
    """Find the records of some files.

    Args:
        recs: The .rec files.
        idxs: An .idx for each, one for all of them laid end to end, or none.
        sizes: Bytes in each .rec.
        asked: Whether the .idx files were asked for, and not only found beside the .rec files.
            Records that they leave out are left out then; otherwise such a .rec is scanned.
        strict: Whether damage is an error; otherwise damaged records are left out.

    Returns:
        The records, with keys if all of them come from .idx files; how they are spaced; and those
        that are left out.

    Raises:
        FormatError: A file is not what it should be.
    """
    finder = _Finder(recs, idxs, sizes, asked=asked, strict=strict)
    table, spacing = finder.by_index() if idxs else finder.by_scan()
    return table, spacing, finder.losses


class _Finder:
    """Finds the records of some files; see `find_records` for the arguments."""

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
        self.losses = Losses()

    def by_scan(self) -> tuple[RecordTable, Spacing]:
        """The records found by going through the files."""
        recs = self._recs
        if self._strict:
            parts = for_each(Index.scan, recs, recs)
        else:
            parts = [self._add_losses(*found) for found in for_each(_scan_whole, recs, recs)]
        return replace(self._join(parts), keys=None), DAMAGED if self.losses.count else EXACT

    def by_index(self) -> tuple[RecordTable, Spacing]:
        """The records that the .idx files name; of others see `find_records`."""
        parts = self._parse()
        rows = [*zip(parts, self._recs, self._idx_of, strict=True)]
        coverage = for_each(self._coverage, rows, self._recs)
        for number, found in enumerate(coverage):
            if found is None:
                parts[number], coverage[number] = self._salvage(parts[number], number)
        table = self._join(parts)
        spacing, gaps = look_at_spacing(table)
        unnamed = {n: c for n, c in enumerate(coverage) if c and not c.is_complete}
        if self._asked:
            self._warn_of_unnamed(unnamed)
            return table, spacing
        scanned = self._complete(parts, unnamed, gaps)
        if scanned:
            table = self._join(parts)
            spacing, _ = look_at_spacing(table)
        if scanned or None in coverage:  # some records have no key
            table = replace(table, keys=None)
        return table, spacing

    def _coverage(self, row: tuple[Index, str, str]) -> Coverage | None:
        """The part of a .rec that its index names; None if the index does not fit.

        Args:
            row: The index, the .rec and the .idx.

        Raises:
            FormatError: The index does not fit, and that is an error.
        """
        try:
            return check_fit(*row)
        except FormatError:
            if self._strict:
                raise
            return None

    def _salvage(self, part: Index, number: int) -> tuple[Index, Coverage | None]:
        """The entries of an index that may be whole records, and the part that they name.

        An index that belongs to another file, and was not asked for, is not used at all: the file
        is scanned, and None stands for the part that is named.

        Args:
            part: An index that does not fit its .rec.
            number: Number of the file.
        """
        rec, idx = self._recs[number], self._idx_of[number]
        kept = self._add_losses(*_without_lost(part, rec, idx, self._sizes[number]))
        try:
            return kept, check_fit(kept, rec, idx)
        except FormatError as error:
            if self._asked:
                return kept, None
            unused = f"it is not used, and all of {rec} is read to find the records"
            _warn([f"{error}; {unused}"])
            return self._add_losses(*_scan_whole(rec)), None

    def _parse(self) -> list[Index]:
        """The index of each file, in the order in which the records lie in it."""
        parts = [part.sorted() for part in for_each(Index.load, self._idxs, self._idxs)]
        return _cut(parts[0], self._sizes) if len(self._idxs) < len(self._recs) else parts

    def _join(self, parts: Sequence[Index]) -> RecordTable:
        return RecordTable.join(self._recs, self._sizes, parts)

    def _warn_of_unnamed(self, unnamed: dict[int, Coverage]) -> None:
        """Warn of parts of files, by number, that an index does not name which was asked for."""
        messages = []
        for number, part in unnamed.items():
            rec, idx = self._recs[number], self._idx_of[number]
            messages.append(
                f"{idx} names no record in {part.unnamed} of {rec}, which is not read; if it "
                f"should be, make a new index with {advice(rec, idx)}"
            )
        if not self.losses.count:
            _warn(messages)

    def _complete(
        self, parts: list[Index], unnamed: dict[int, Coverage], gaps: dict[int, int]
    ) -> bool:
        """Scan files whose indexes leave records out, and were not asked for.

        Args:
            parts: The index of each file; what a scan finds takes its place.
            unnamed: By number of a file, the part that its index names, if that is not all of it.
            gaps: By number of a file, where a record lies between those that its index names.

        Returns:
            Whether any file was scanned.
        """
        messages, scanned = [], False
        for number in sorted({*unnamed, *gaps}):
            where, begin = f"what follows byte {gaps.get(number)}", 0
            if named := unnamed.get(number):
                where = named.unnamed
                begin = 0 if named.start or number in gaps else named.end
            rec, idx, missing = self._recs[number], self._idx_of[number], 0
            if not begin or len(verify(rec, begin)[0]):
                whole, damage = _scan_whole(rec)
                missing = len(np.setdiff1d(whole.offsets, parts[number].offsets))
            if not missing:
                if not self.losses.count:
                    part = f"{where} of {rec}"
                    messages.append(f"{idx} does not name {part}: no whole record is there")
                continue
            if self._strict and damage.count:
                raise damage.faults[0]
            messages.append(
                f"{idx} is not used: it does not name {missing} of {len(whole)} records of {rec}, "
                f"in {where}. It may be that of an older file: make a new one with "
                f"{advice(rec, idx)}"
            )
            parts[number], scanned = self._add_losses(whole, damage), True
        _warn(messages)
        return scanned

    def _add_losses(self, part: Index, losses: Losses) -> Index:
        """`part`, after a warning that tells what was left out of it."""
        if losses.count:
            whole = f"{losses.count} such places are left out, and {len(part)} records are whole"
            _warn([f"{losses.faults[0]}; {whole}"])
            self.losses.count += losses.count
            self.losses.faults += losses.faults
        return part


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
