"""`RecordIOSource`: the records of one or more .rec files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.formats.image_record import HEADER_NBYTES, unpack
from gpuio.formats.index import Index
from gpuio.formats.label_hint import label_hint
from gpuio.formats.recordio import (
    HEAD_NBYTES,
    MAGIC,
    MAX_PAYLOAD,
    RecordFile,
    first_bytes,
    other_kind,
)
from gpuio.sources.base import EncodedImage, Losses, RecordSource, enough_for
from gpuio.sources.reading import SourceReader
from gpuio.sources.recordio.entries import find_records
from gpuio.sources.recordio.spacing import EXACT, Spacing, look_at_spacing
from gpuio.sources.recordio.table import RecordTable
from gpuio.storage.identity import FileIdentity, identity_of, version_of
from gpuio.storage.location import Location
from gpuio.storage.paths import PathLike, absolute, is_url
from gpuio.storage.shards import beside, exist, find_files, sizes_of

_SAMPLE: Final = 10_000  # records whose sizes are looked at
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)  # odd, so offsets stay different
_COUNTED: Final = 1 << 16  # records at a time whose labels are counted


@dataclass(frozen=True, slots=True, eq=False)
class RecordIOSource(RecordSource):
    """Image records of RecordIO files.

    Attributes:
        table: Where the records lie.
        identities: The identity of each file, None for one at a URL.
        idxs: The .idx files; none if the records were found without.
        spacing: How the records are spaced.
        losses: The records that were left out because they are damaged.
        keys: (count,) int64 keys of the .idx; None if the records were found without.
    """

    table: RecordTable
    identities: tuple[FileIdentity | None, ...]
    idxs: tuple[str, ...] = ()
    spacing: Spacing = EXACT
    losses: Losses = field(default_factory=Losses)
    keys: npt.NDArray[np.int64] | None = field(init=False)
    _file_versions: list[int] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", self.table.keys)

    @classmethod
    def open(
        cls,
        path_imgrec: PathLike | Sequence[PathLike],
        path_imgidx: PathLike | Sequence[PathLike] = "",
        *,
        on_error: str = "raise",
    ) -> RecordIOSource:
        """Find the files and their index.

        An index that was found beside its .rec is used if it names all records; if not, a warning
        tells so, and the .rec is scanned. One that was asked for is used as it is.

        Args:
            path_imgrec: A file or several, as `find_files` takes them: a list, braces, a glob
                pattern, a folder.
            path_imgidx: As many .idx files, given the same way; or one for all, with offsets
                into the files one after the other. By default those beside the .rec files; if
                one has none, the .rec files are scanned.
            on_error: "raise" refuses a .rec that is damaged or shorter than its index; with any
                other policy damaged records are left out, with a warning.

        Raises:
            FileNotFoundError: There is no such file, or one of a set of shards is missing.
            FormatError: A file is not what it should be, or holds no record.
        """
        # Later the current folder may be another one.
        recs = [absolute(path) for path in find_files(path_imgrec, ".rec")]
        identities = tuple(map(identity_of, recs))
        idxs = [absolute(path) for path in find_files(path_imgidx, ".idx")] if path_imgidx else []
        sizes = sizes_of(recs)
        asked, strict = bool(idxs), on_error == "raise"
        idxs = idxs or _beside(recs)
        try:
            table, spacing, losses = find_records(recs, idxs, sizes, asked=asked, strict=strict)
        except FormatError:
            _check_kinds(recs, sizes)
            raise
        if not len(table):
            _check_kinds(recs, sizes)
            why = f": {losses.faults[0]}" if losses.faults else ""
            raise FormatError(f"{'; '.join(recs)}: no record in it{why}")
        used = () if table.keys is None else tuple(idxs)
        return cls(table, identities, used, spacing, losses)

    @classmethod
    def of_index(cls, path: str, index: Index) -> RecordIOSource:
        """The records of one .rec that an index names.

        Args:
            path: The .rec.
            index: The index, in the order in which the records lie in the file.
        """
        table = RecordTable.join([path], sizes_of([path]), [index])
        return cls(table, (identity_of(path),), spacing=look_at_spacing(table)[0])

    def __len__(self) -> int:
        return len(self.table)

    def __str__(self) -> str:
        return "; ".join(self.table.paths)

    @property
    def is_remote(self) -> bool:
        return any(map(is_url, self.table.paths))

    def read(self, record: int) -> EncodedImage:
        payload = self.payload(record)
        try:
            header, image = unpack(payload)
        except FormatError as error:
            raise FormatError(f"{self.where(record)}: {error}") from error
        labels = np.asarray(header.label, np.float32).reshape(-1)
        return EncodedImage(image, labels, header.id)

    def payload(self, record: int) -> bytes:
        """The payload of one record, read by itself.

        Raises:
            CorruptRecordError: It is damaged.
            FormatError: The file is not the one that was opened first.
        """
        number, offset = self.table.place_of(record)
        with self.open_file(number) as file:
            return file.read(offset)[0]

    def open_file(self, number: int) -> RecordFile:
        """A .rec by its number, open for reading.

        Raises:
            FormatError: The file is not the one that was opened first.
            OSError: It cannot be opened.
        """
        file = RecordFile(self.table.paths[number])
        try:
            file.bytes.check_identity(self.identities[number])
        except BaseException:
            file.close()
            raise
        return file

    def where(self, record: int) -> str:
        return self.table.where(record)

    def hint(self, record: int) -> str:
        try:
            header, image = unpack(self.payload(record))
        except (OSError, ValueError):
            return ""
        return label_hint(header.label, len(image), first=record in self.table.first)

    def fingerprint(self) -> int:
        return self.table.fingerprint()

    def versions(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64] | None:
        """As for every source; None if a store tells no version of one of the files.

        A reader looks whether files have changed, so those of an open source are looked at once.
        """
        if not self._file_versions:
            known = zip(self.table.paths, self.identities, strict=True)
            self._file_versions.extend(_file_version(path, identity) for path, identity in known)
        if 0 in self._file_versions:
            return None
        files = np.array(self._file_versions, np.uint64)[self.table.file_of(ids)]
        return files ^ (self.table.offsets[ids].astype(np.uint64) * _SPREAD)

    def nbytes(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self.table.distances(ids)

    def batch_nbytes(self, count: int) -> int:
        some = np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(np.int64)
        apart = np.minimum(self.nbytes(some), self.spacing.limit)
        return enough_for(apart if self.spacing.limit else self.spacing.lengths, count)

    def label_counts(self) -> npt.NDArray[np.int64]:
        counts, first = np.zeros(len(self), np.int64), self.table.first.tolist()
        for number, (begin, end) in enumerate(pairwise(first)):
            if begin == end:
                continue  # nothing to read; the file need not even be there any more
            with self.open_file(number) as file:
                for start in range(begin, end, _COUNTED):
                    ids = np.arange(start, min(start + _COUNTED, end))
                    offsets, nbytes = self.table.offsets[ids], self.table.distances(ids)
                    counts[ids] = _label_counts(file, offsets, nbytes)
        return counts

    def reader(self, label_width: int, *, ragged: bool = False) -> SourceReader:
        from gpuio.sources.recordio.reading import RecordIOReader  # which imports Numba

        return RecordIOReader(self, label_width, ragged=ragged)


def _file_version(path: str, identity: FileIdentity | None) -> int:
    """A 64-bit number that changes with a file; 0 for one at a URL whose store tells no version."""
    if identity is not None:
        return identity.version
    size, version = Location.of(path).storage.seen.get(path, (0, ""))
    return version_of(f"{path} {size} {version}") if version else 0


def _label_counts(
    file: RecordFile, offsets: npt.NDArray[np.int64], nbytes: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """(N,) int64, how many labels follow the headers of records; 0 for a damaged record.

    Args:
        file: The .rec.
        offsets: (N,) where the records start, in bytes.
        nbytes: (N,) bytes to the next record; of a record that is not split its own head tells,
            since the index may be wrong.
    """
    words = file.bytes.gather(offsets, HEAD_NBYTES + 4).view("<u4")  # the head, and the flag
    magics, lengths, flags = words.astype(np.int64).T
    left = file.size - HEAD_NBYTES - offsets
    payload = np.where(lengths <= MAX_PAYLOAD, np.minimum(lengths, left), nbytes - HEAD_NBYTES)
    valid = (magics == MAGIC) & (HEADER_NBYTES + 4 * flags <= payload)
    return np.where(valid, flags, 0)


def _check_kinds(recs: Sequence[str], sizes: Sequence[int]) -> None:
    """Check that no file is of another kind that is known by its first bytes.

    Raises:
        FormatError: One is; the message says what.
    """
    for rec, size in zip(recs, sizes, strict=True):
        if size and (kind := other_kind(first_bytes(rec))):
            raise FormatError(f"{rec}: not a RecordIO file, but {kind}")


def _beside(recs: list[str]) -> list[str]:
    """The .idx of each file; none, if one has none."""
    idxs = [beside(rec, ".idx") for rec in recs]
    return idxs if exist(idxs) else []
