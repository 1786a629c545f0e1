"""Where the records of .rec files lie: by their index, or by going through the files."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from gpuio.core.parallel_map import in_order
from gpuio.errors import CorruptRecordError, FormatError, GpuioError
from gpuio.formats.index import Index
from gpuio.formats.index_fit import Coverage, advice, impossible, whole_entries
from gpuio.formats.recordio import verify
from gpuio.sources.base import Losses
from gpuio.sources.recordio.index_cache import JoinedIndex, join, keep
from gpuio.sources.recordio.spacing import DAMAGED, EXACT, Spacing, look_at_spacing
from gpuio.storage.paths import is_url

T = TypeVar("T")
R = TypeVar("R")

_AT_ONCE: Final = 16  # files at URLs whose index is read side by side
_DESCRIBED: Final = 20  # lines of an index whose fault is described
_WARNED: Final = 3  # files whose fault is a warning


@dataclass(frozen=True, slots=True, eq=False)
class Entries:
    """Where the records of several files lie.

    Attributes:
        joined: The records of all files; their keys only mean something with `keyed`.
        keyed: Whether all of it comes from .idx files.
        spacing: How the records are spaced.
        losses: What is left out.
    """

    joined: JoinedIndex
    keyed: bool
    spacing: Spacing
    losses: Losses


@dataclass(frozen=True, slots=True)
class _Unnamed:
    """Part of a .rec that its index does not name.

    Attributes:
        where: Where it is, for messages.
        begin: Where to look for records, in bytes; 0 for the whole file.
    """

    where: str
    begin: int = 0


def find_entries(
    recs: Sequence[str], idxs: Sequence[str], sizes: Sequence[int], *, asked: bool, strict: bool
) -> Entries:
    """Find the records.

    Args:
        recs: The .rec files.
        idxs: An .idx for each, one for all of them laid end to end, or none.
        sizes: Bytes in each .rec.
        asked: The .idx files were asked for, and not only found beside the .rec files. What they
            leave out is left out then, and is a reason to go through the .rec otherwise.
        strict: Damage is an error; otherwise it is left out.

    Raises:
        FormatError: A file is not what it should be.
    """
    losses = Losses()
    if not idxs:
        if strict:
            return Entries(join(_each(Index.scan, recs, recs)), False, EXACT, losses)
        parts = [_adding(losses, *found) for found in _each(_scan_whole, recs, recs)]
        return Entries(join(parts), False, DAMAGED if losses.count else EXACT, losses)
    if len(idxs) not in (1, len(recs)):
        raise FormatError(
            f"path_imgidx names {len(idxs)} files for {len(recs)} .rec files: "
            "give one for each, or one for all"
        )
    named = [*idxs] if len(idxs) == len(recs) else [*idxs] * len(recs)
    coverage: list[Coverage | None]
    try:
        joined, coverage = _load(recs, idxs, named, sizes)
    except FormatError:
        if strict:
            raise
        joined, coverage = _what_fits(recs, idxs, named, sizes, losses, asked=asked)
    spacing, gaps = _spacing(recs, joined, sizes)
    found = Entries(joined, asked or None not in coverage, spacing, losses)
    short = {n: _unnamed(c) for n, c in enumerate(coverage) if c and (c.start or c.end < c.size)}
    if not asked:
        for number, place in gaps.items():
            known = short.get(number)
            short[number] = _Unnamed(known.where if known else f"what follows byte {place}")
        return _completed(recs, named, sizes, found, short, strict)
    if not losses.count:
        _warn(
            [
                f"{named[n]} names no record in {unnamed.where} of {recs[n]}, which is not read; "
                f"if it should be, make a new index with {advice(recs[n], named[n])}"
                for n, unnamed in short.items()
            ]
        )
    return found


def _what_fits(
    recs: Sequence[str],
    idxs: Sequence[str],
    named: Sequence[str],
    sizes: Sequence[int],
    losses: Losses,
    *,
    asked: bool,
) -> tuple[JoinedIndex, list[Coverage | None]]:
    """The entries of indexes that may be whole records, and what of each file they name.

    An index that is another file's, and was not asked for, is not used at all: for that file there
    is None.
    """
    parts: list[Index] = []
    coverage: list[Coverage | None] = []
    for rec, idx, size, part in zip(recs, named, sizes, _parse(recs, idxs, sizes), strict=True):
        kept = _adding(losses, *_without_lost(part, rec, idx, size))
        try:
            coverage.append(kept.check(rec, idx=idx))
        except FormatError as error:
            coverage.append(None)
            if not asked:
                _warn([f"{error}; it is not used, and all of {rec} is read to find the records"])
                kept = _adding(losses, *_scan_whole(rec))
        parts.append(kept)
    return join(parts), coverage


def _completed(
    recs: Sequence[str],
    idxs: Sequence[str],
    sizes: Sequence[int],
    found: Entries,
    short: dict[int, _Unnamed],
    strict: bool,
) -> Entries:
    """The records of an index that was not asked for, and those that it leaves out.

    Args:
        recs: The .rec files.
        idxs: The .idx of each.
        sizes: Bytes in each .rec.
        found: What the .idx files say.
        short: By number of a file, where it has bytes that its index does not name.
        strict: Damage is an error.
    """
    first, index = found.joined.first, found.joined.index
    parts = [
        Index(index.keys[begin:end], index.offsets[begin:end])
        for begin, end in zip(first[:-1].tolist(), first[1:].tolist(), strict=True)
    ]
    messages, stale = [], False
    for number, unnamed in short.items():
        rec, idx, part = recs[number], idxs[number], parts[number]
        missing = 0
        if not unnamed.begin or len(verify(rec, unnamed.begin)[0]):
            whole, damage = _scan_whole(rec)
            missing = len(np.setdiff1d(whole.offsets, part.offsets))
        if not missing:
            if not found.losses.count:
                where = f"{unnamed.where} of {rec}"
                messages.append(f"{idx} does not name {where}: no whole record is there")
            continue
        if strict and damage.count:
            raise damage.faults[0]
        messages.append(
            f"{idx} is not used: it does not name {missing} of {len(whole)} records of {rec}, in "
            f"{unnamed.where}. It may be that of an older file: make a new one with "
            f"{advice(rec, idx)}"
        )
        parts[number], stale = _adding(found.losses, whole, damage), True
    _warn(messages)
    if not stale:
        return found
    joined = join(parts)
    return Entries(joined, False, _spacing(recs, joined, sizes)[0], found.losses)


def _spacing(
    recs: Sequence[str], joined: JoinedIndex, sizes: Sequence[int]
) -> tuple[Spacing, dict[int, int]]:
    if not len(joined.index):
        return EXACT, {}
    return look_at_spacing(recs, joined.first, np.array(sizes, np.int64), joined.index.offsets)


def _unnamed(coverage: Coverage) -> _Unnamed:
    if coverage.start:
        return _Unnamed(f"the first {coverage.start} bytes")
    return _Unnamed(f"the last {coverage.size - coverage.end} bytes", coverage.end)


def _scan_whole(rec: str) -> tuple[Index, Losses]:
    """The whole records of a .rec, found by going through it, and what is damaged."""
    index, damages = Index.scan_whole(rec)
    faults: list[GpuioError] = [
        CorruptRecordError(f"{d.reason}; lost until byte {d.resumed}", path=rec, offset=d.offset)
        for d in damages[:_DESCRIBED]
    ]
    return index, Losses(len(damages), faults)


def _adding(losses: Losses, part: Index, more: Losses) -> Index:
    """`part`, with what it lacks said in a warning and added to `losses`."""
    if more.count:
        left_out = f"{more.count} such places are left out, and {len(part)} records are whole"
        _warn([f"{more.faults[0]}; {left_out}"])
        losses.count += more.count
        losses.faults += more.faults
    return part


def _load(
    recs: Sequence[str], idxs: Sequence[str], named: Sequence[str], sizes: Sequence[int]
) -> tuple[JoinedIndex, list[Coverage | None]]:
    """The index of all files, and what of each it names.

    Raises:
        FormatError: A .idx is not the index of its .rec.
    """
    coverage: list[Coverage | None] = []

    def parse() -> list[Index]:
        parts = _parse(recs, idxs, sizes)
        coverage[:] = _each(_check, list(zip(recs, named, parts, strict=True)), recs)
        return parts

    if any(map(is_url, idxs)):
        return join(parse()), coverage
    joined = keep(idxs, sizes, parse)
    if joined.kept:
        coverage.clear()
        # What was checked then is as it was; what may be new are files of the same sizes.
        bounds = zip(joined.first[:-1].tolist(), joined.first[1:].tolist(), strict=True)
        for rec, idx, (begin, end) in zip(recs, named, bounds, strict=True):
            ends = slice(begin, end, max(end - begin - 1, 1))
            part = Index(joined.index.keys[ends], joined.index.offsets[ends])
            coverage.append(part.check(rec, idx=idx))
    return joined, coverage


def _parse(recs: Sequence[str], idxs: Sequence[str], sizes: Sequence[int]) -> list[Index]:
    """The index of each file, in the order in which records lie in it."""
    parts = [part.sorted() for part in _each(Index.load, idxs, idxs)]
    return _cut(parts[0], sizes) if len(idxs) < len(recs) else parts


def _check(given: tuple[str, str, Index]) -> Coverage:
    rec, idx, part = given
    return part.check(rec, idx=idx)


def _without_lost(part: Index, rec: str, idx: str, size: int) -> tuple[Index, Losses]:
    """The entries of an index that may be whole records of a .rec, and why others are none."""
    whole = whole_entries(part, rec)
    lost = np.flatnonzero(~whole)
    faults: list[GpuioError] = [
        FormatError(f"{rec}: {impossible(part, place, idx, size)}")
        for place in lost[:_DESCRIBED].tolist()
    ]
    return Index(part.keys[whole], part.offsets[whole]), Losses(len(lost), faults)


def _each(work: Callable[[T], R], items: Sequence[T], paths: Sequence[str]) -> list[R]:
    """`work` for each item; several at once where `paths` are URLs: most of it is waiting."""
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
    """Say what is wrong with the first of some files."""
    for message in messages[:_WARNED]:
        warnings.warn(message, stacklevel=2)
    if len(messages) > _WARNED:
        warnings.warn(f"the same of {len(messages) - _WARNED} more files", stacklevel=2)
