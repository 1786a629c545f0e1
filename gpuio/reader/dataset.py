"""A data set of one or more .rec files: which records there are, and where each one lies."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.format.index import Index
from gpuio.format.recordio import RecordFile

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Records of all files, numbered from 0 in the order in which they lie in them.

    Attributes:
        paths: The .rec files.
        keys: (count,) int64 keys of the .idx; None where there is none.
        offsets: (count,) int64, where each record starts in its file, in bytes.
        ends: (count,) int64, where the next one starts, or the file ends.
        first: (files + 1,) int64, number of the first record of each file.
    """

    paths: tuple[str, ...]
    keys: npt.NDArray[np.int64] | None
    offsets: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets)

    @classmethod
    def open(cls, path_imgrec: PathLike | list[PathLike], path_imgidx: PathLike = "") -> Dataset:
        """Find the files and their index.

        Args:
            path_imgrec: A file, several joined with ";" or in a list, a folder (all .rec in it)
                or a glob pattern. Files found by folder or pattern are sorted by name.
            path_imgidx: As many .idx files, given the same way; or one for all, with offsets
                into the files one after the other. Without any, the files are gone through.

        Raises:
            FileNotFoundError: There is no such file.
            FormatError: A file is not what it should be, or holds no record.
        """
        recs = _resolve(path_imgrec, ".rec")
        sizes = [Path(rec).stat().st_size for rec in recs]
        if not path_imgidx:
            parts = [Index.scan(rec) for rec in recs]
        else:
            idxs = _resolve(path_imgidx, ".idx")
            if len(idxs) == 1 and len(recs) > 1:
                parts = _cut(Index.load(idxs[0]).sorted(), sizes)
                idxs *= len(recs)
            elif len(idxs) == len(recs):
                parts = [Index.load(idx).sorted() for idx in idxs]
            else:
                raise FormatError(
                    f"path_imgidx names {len(idxs)} files for {len(recs)} .rec files: "
                    "give one for each, or one for all"
                )
            for rec, idx, part in zip(recs, idxs, parts, strict=True):
                part.check(rec, idx=idx)
        if not sum(map(len, parts)):
            raise FormatError(f"{'; '.join(recs)}: no record in it")
        keys = _join([part.keys for part in parts]) if path_imgidx else None
        ends = [part.ends(size) for part, size in zip(parts, sizes, strict=True)]
        first = np.cumsum([0, *map(len, parts)])
        return cls(tuple(recs), keys, _join([part.offsets for part in parts]), _join(ends), first)

    def file_of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(N,) int64, the file that holds each of (N,) records."""
        return np.searchsorted(self.first, ids, side="right") - 1

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
        with RecordFile(path) as file:
            return file.read(int(self.offsets[record]))[0]


def _resolve(given: PathLike | list[PathLike], suffix: str) -> list[str]:
    names = [os.fspath(name) for name in given] if isinstance(given, list) else None
    if names is None:
        names = os.fspath(given).split(";")  # type: ignore[arg-type]
    found: list[str] = []
    for name in names:
        path = Path(name)
        if path.is_dir():
            matches = sorted(str(child) for child in path.iterdir() if child.suffix == suffix)
        elif path.exists():
            matches = [name]
        else:
            matches = sorted(glob.glob(name))  # noqa: PTH207  the pattern may be absolute
        if not matches:
            raise FileNotFoundError(f"{name}: no such file, and no {suffix} file matches it")
        found += matches
    return found


def _cut(index: Index, sizes: list[int]) -> list[Index]:
    """One index over files laid end to end, as one index for each file."""
    starts = np.cumsum([0, *sizes])
    bounds = np.searchsorted(index.offsets, starts)
    bounds[-1] = len(index)
    return [
        Index(index.keys[begin:end], index.offsets[begin:end] - start)
        for begin, end, start in zip(bounds[:-1], bounds[1:], starts[:-1], strict=True)
    ]


def _join(arrays: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
