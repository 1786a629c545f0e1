"""A cache on disk of the parsed indexes of large data sets.

An .idx of 42 million lines takes seconds to parse. So the arrays that were parsed are written to a
file once, and read from it by whoever opens the data set next. The file is

    stamp NEWLINE, zeros to a multiple of 64 bytes | first | keys | offsets | checksum

with little-endian int64 arrays and a uint64 CRC-32 of everything before it. The stamp is JSON: the
version, name, size and times of each .idx, the size of each .rec. Where the stamp is not the
present one, the file is written anew; it may be deleted at any time. It lies beside the first .idx
or, where that folder cannot be written, in the user's cache.

The file is not trusted blindly. It is used if it is a plain file of this user or of root which
nobody else may write, if its checksum is right, and if its offsets can be places in the .rec files.
It is read into memory and not mapped: a mapped file that another process cuts ends this one.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Final
from zlib import crc32

import numpy as np
import numpy.typing as npt

from gpuio.errors import BusyError
from gpuio.formats.index import Index
from gpuio.sources.recordio.table import RecordTable
from gpuio.storage.atomic import committed
from gpuio.storage.plain_file import is_trusted, open_plain, restrict
from gpuio.storage.shards import sizes_of

Int64s = npt.NDArray[np.int64]

_VERSION: Final = 2
_ALIGNED: Final = 64
_SUM_NBYTES: Final = 8
# Bytes of .idx from which a cache is written: about a million lines. Fewer are parsed in 0.06 s,
# which is not worth a file that someone wonders about.
_LARGE: Final = 16 << 20
_SHORTEST_LINE: Final = 3  # bytes: two digits and the tab
_BLOCK: Final = 1 << 20  # bytes read and summed at a time: the sum finds them in the cache


def load_cached(
    recs: Sequence[str],
    idxs: Sequence[str],
    sizes: Sequence[int],
    parse: Callable[[], Sequence[Index]],
) -> RecordTable:
    """The records of several files, from a cache if the .idx files are large, else parsed.

    Args:
        recs: The .rec files.
        idxs: The .idx files, on disk.
        sizes: Bytes in each .rec.
        parse: Reads and checks the .idx files: gives an index for each .rec.
    """
    nbytes = sum(sizes_of(sorted(set(idxs))))
    if nbytes < _LARGE:
        return RecordTable.join(recs, sizes, parse())
    cache = _Cache(_stamp(idxs, sizes), recs, sizes, nbytes // _SHORTEST_LINE + 1)
    paths = _cache_paths(idxs)
    found = cache.load(paths)
    if found is None:
        found = RecordTable.join(recs, sizes, parse())
        cache.save(paths, found)
    return found


@dataclass(frozen=True, slots=True)
class _Cache:
    """The cache of one data set's index, in whatever file it lies.

    Attributes:
        stamp: The bytes that the file begins with.
        recs: The .rec files.
        sizes: Bytes in each .rec.
        most: The largest number of records that the .idx files can name.
    """

    stamp: bytes
    recs: Sequence[str]
    sizes: Sequence[int]
    most: int

    def load(self, paths: Sequence[Path]) -> RecordTable | None:
        """The records in the first file that can be used; None if none can."""
        for path in paths:
            with suppress(OSError):
                if (found := self._load(path)) is not None:
                    return found
        return None

    def save(self, paths: Sequence[Path], table: RecordTable) -> None:
        """Write the first file that can be written, unless another process is writing it."""
        for path in paths:
            try:
                if not _is_foreign(path):
                    self._save(path, table)
                    return
            except BusyError:
                return
            except OSError:  # the disk is full, or the folder is not ours to write to
                continue

    def _load(self, path: Path) -> RecordTable | None:
        """The records in a file; None if it is another one, not whole, or not to be trusted.

        Raises:
            OSError: The file cannot be read, or is a symbolic link.
        """
        with FileIO(open_plain(path), "rb") as file:
            status = os.fstat(file.fileno())
            if not is_trusted(status) or file.read(len(self.stamp)) != self.stamp:
                return None
            nbytes = status.st_size - len(self.stamp) - _SUM_NBYTES
            files = len(self.sizes)
            count, odd = divmod(nbytes - 8 * (files + 1), 16)
            if odd or not 0 <= count <= self.most:
                return None
            numbers = np.empty(nbytes // 8, "<i8")
            checksum = _read(file, numbers.data.cast("B"), crc32(self.stamp))
            if file.read(_SUM_NBYTES) != _sum_bytes(checksum):
                return None
        first, rest = numbers[: files + 1].copy(), numbers[files + 1 :]
        keys, offsets = rest[:count], rest[count:]
        if int(first[-1]) != count or not _fits(first, offsets, self.sizes):
            return None
        sizes = np.array(self.sizes, np.int64)
        return RecordTable(tuple(self.recs), sizes, first, offsets, keys)

    def _save(self, path: Path, table: RecordTable) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with committed(path) as (partial,), partial.open() as file:
            restrict(file.fileno())
            file.write(self.stamp)
            checksum = crc32(self.stamp)
            for array in (table.first, table.keys, table.offsets):
                data = np.ascontiguousarray(array, "<i8").data
                file.write(data)
                checksum = crc32(data, checksum)
            file.write(_sum_bytes(checksum))


def _is_foreign(path: Path) -> bool:
    """Whether there is something that is not a plain file of this user: it is left alone."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return False
    own = not hasattr(os, "geteuid") or status.st_uid == os.geteuid()
    return not (own and stat.S_ISREG(status.st_mode))


def _read(file: FileIO, into: memoryview, checksum: int) -> int:
    """Fill `into` from the position of a file; the CRC-32 that goes on from `checksum`.

    Where the file ends too early the CRC-32 is one of fewer bytes, and so a wrong one.
    """
    done = 0
    while got := file.readinto(into[done : done + _BLOCK]):
        checksum = crc32(into[done : done + got], checksum)
        done += got
    return checksum


def _sum_bytes(checksum: int) -> bytes:
    return checksum.to_bytes(_SUM_NBYTES, "little")


def _fits(first: Int64s, offsets: Int64s, sizes: Sequence[int]) -> bool:
    """Whether offsets can be places of records in files of these sizes, in ascending order."""
    if first[0] != 0 or (first[1:] < first[:-1]).any() or np.bitwise_or.reduce(offsets) % 4:
        return False
    for begin, end, size in zip(first[:-1].tolist(), first[1:].tolist(), sizes, strict=True):
        part = offsets[begin:end]
        if len(part) and (part[0] < 0 or part[-1] > size - 8 or (part[1:] < part[:-1]).any()):
            return False
    return True


def _stamp(idxs: Sequence[str], sizes: Sequence[int]) -> bytes:
    """The bytes that a cache begins with: everything that the arrays depend on."""
    status = [os.stat(idx) for idx in idxs]  # noqa: PTH116
    rows = [
        # A file that was put in place of another may have its size and st_mtime, but not st_ctime.
        [name, s.st_size, s.st_mtime_ns, s.st_ctime_ns]
        for name, s in zip(_names(idxs), status, strict=True)
    ]
    stamp = {"gpuio index": _VERSION, "idx": rows, "rec": list(sizes)}
    text = json.dumps(stamp).encode() + b"\n"
    return text + bytes(-len(text) % _ALIGNED)


def _cache_paths(idxs: Sequence[str]) -> list[Path]:
    """The files that a cache may lie in, the best one first."""
    beside = f"{idxs[0]}.cache"
    if len(idxs) > 1:
        beside = f"{idxs[0]}.{_digest(_names(idxs))}.cache"
    paths = [Path(beside)]
    with suppress(RuntimeError):  # this user has no home
        base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
        cache = Path(base) if base else Path.home() / ".cache"
        absolute = [os.path.abspath(idx) for idx in idxs]  # noqa: PTH100
        paths.append(cache / "gpuio" / f"{_digest(absolute)}.idx.cache")
    return paths


def _names(idxs: Sequence[str]) -> list[str]:
    """The names relative to the folder of the first, wherever that folder is mounted."""
    folder = os.path.dirname(idxs[0]) or "."  # noqa: PTH120
    return [os.path.relpath(idx, folder) for idx in idxs]


def _digest(names: Sequence[str]) -> str:
    return blake2b("\0".join(names).encode(errors="surrogateescape"), digest_size=8).hexdigest()
