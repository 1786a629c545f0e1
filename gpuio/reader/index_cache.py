"""Indexes of large data sets, kept on disk as arrays that all processes of a machine share.

A .idx of 42 million lines takes seconds to parse, and every process would hold 670 MB of its own.
So what was parsed is written to a file once, and mapped into memory by whoever opens the data set
next: that takes no time, and the pages are the same for all. The file is

    stamp NEWLINE, zeros to a multiple of 64 bytes | first | keys | offsets

with little-endian int64 arrays. The stamp is JSON: version, name, size and time of each .idx, size
of each .rec. Where it is not what it should be now, the file is made anew; it may be deleted at any
time. It lies beside the first .idx or, where that folder cannot be written, in the user's cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from gpuio.format.index import Index
from gpuio.location import is_url
from gpuio.shards import sizes_of

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Int64s = npt.NDArray[np.int64]

_VERSION: Final = 1
_ALIGNED: Final = 64
# Bytes of .idx from which a file is made. About a million lines: less is parsed in 0.06 s and takes
# 16 MB, which is not worth a file that someone wonders about.
_LARGE: Final = 16 << 20


@dataclass(frozen=True, slots=True, eq=False)
class JoinedIndex:
    """The records of several files, one file after the other.

    Attributes:
        index: Of all records; offsets count from the start of their own file.
        first: (files + 1,) int64, number of the first record of each file.
        kept: Whether it comes from a file made before.
    """

    index: Index
    first: Int64s
    kept: bool = False


def join(parts: Sequence[Index]) -> JoinedIndex:
    """The indexes of several files as one."""
    first = np.cumsum([0, *map(len, parts)])
    if len(parts) == 1:
        return JoinedIndex(parts[0], first)
    keys = np.concatenate([part.keys for part in parts])
    return JoinedIndex(Index(keys, np.concatenate([part.offsets for part in parts])), first)


def keep(
    idxs: Sequence[str], sizes: Sequence[int], parse: Callable[[], Sequence[Index]]
) -> JoinedIndex:
    """What `parse` returns, joined; from a file on disk, if that is worth it.

    Args:
        idxs: The .idx files; of those at URLs nothing is kept.
        sizes: Bytes in each .rec.
        parse: Reads and checks the .idx files: an index for each .rec.
    """
    if any(map(is_url, idxs)) or sum(sizes_of(sorted(set(idxs)))) < _LARGE:
        return join(parse())
    stamp, places = _stamp(idxs, sizes), _places(idxs)
    found = _first(places, stamp, len(sizes))
    if found is None:
        with _turn(idxs[0]):
            # Another process may have made it while this one waited.
            found = _first(places, stamp, len(sizes))
            if found is None:
                found = _make(places, stamp, parse())
    return found


def _make(places: Sequence[Path], stamp: bytes, parts: Sequence[Index]) -> JoinedIndex:
    for place in places:
        with suppress(OSError):  # no room, or not ours to write to
            _save(place, stamp, parts)
            if (found := _load(place, stamp, len(parts))) is not None:
                return found
    return join(parts)


def _first(places: Sequence[Path], stamp: bytes, files: int) -> JoinedIndex | None:
    for place in places:
        with suppress(OSError):
            if (found := _load(place, stamp, files)) is not None:
                return found
    return None


def _load(place: Path, stamp: bytes, files: int) -> JoinedIndex | None:
    """What `place` holds, mapped; None if it is not of `stamp`, or not whole."""
    with place.open("rb") as file:
        nbytes = os.fstat(file.fileno()).st_size - len(stamp)
        if file.read(len(stamp)) != stamp or nbytes < 8 * (files + 1) or nbytes % 8:
            return None
        numbers = np.memmap(file, "<i8", "r", len(stamp)).view(np.ndarray)
    first = numbers[: files + 1].copy()
    count, rest = int(first[-1]), numbers[files + 1 :]
    if len(rest) != 2 * count:
        return None
    return JoinedIndex(Index(rest[:count], rest[count:]), first, kept=True)


def _save(place: Path, stamp: bytes, parts: Sequence[Index]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(f"{place}.{uuid4().hex[:8]}.partial")
    try:
        with partial.open("xb") as file:
            file.write(stamp)
            file.write(np.cumsum([0, *map(len, parts)], dtype="<i8").data)
            for arrays in ([part.keys for part in parts], [part.offsets for part in parts]):
                for array in arrays:
                    file.write(np.ascontiguousarray(array, "<i8").data)
            # A machine that fails must not leave a stamp and no numbers behind.
            file.flush()
            os.fsync(file.fileno())
        partial.replace(place)
    finally:
        partial.unlink(missing_ok=True)


def _stamp(idxs: Sequence[str], sizes: Sequence[int]) -> bytes:
    """All that the arrays depend on, as the head of the file."""
    status = [os.stat(idx) for idx in idxs]  # noqa: PTH116
    names = _names(idxs)
    rows = [[n, s.st_size, s.st_mtime_ns] for n, s in zip(names, status, strict=True)]
    stamp = {"gpuio index": _VERSION, "idx": rows, "rec": list(sizes)}
    text = json.dumps(stamp).encode() + b"\n"
    return text + bytes(-len(text) % _ALIGNED)


def _places(idxs: Sequence[str]) -> list[Path]:
    """Where the file may be, the best place first."""
    beside = f"{idxs[0]}.cache"
    if len(idxs) > 1:
        beside = f"{idxs[0]}.{_digest(_names(idxs))}.cache"
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    cache = Path(base) if base else Path.home() / ".cache"
    absolute = [os.path.abspath(idx) for idx in idxs]  # noqa: PTH100
    return [Path(beside), cache / "gpuio" / f"{_digest(absolute)}.idx.cache"]


def _names(idxs: Sequence[str]) -> list[str]:
    """Relative to the folder of the first: the same from wherever the folder is mounted."""
    folder = os.path.dirname(idxs[0]) or "."  # noqa: PTH120
    return [os.path.relpath(idx, folder) for idx in idxs]


def _digest(names: Sequence[str]) -> str:
    return blake2b("\0".join(names).encode(errors="surrogateescape"), digest_size=8).hexdigest()


@contextmanager
def _turn(path: str) -> Iterator[None]:
    """Hold back other processes that are about to do the same work.

    Where files cannot be locked nobody waits: work is done twice then, and the last result stays.
    """
    with Path(path).open("rb") as file:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
