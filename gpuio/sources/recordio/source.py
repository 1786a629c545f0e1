"""`RecordIOSource`: the records of one or more .rec files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError
from gpuio.formats.image_record import unpack
from gpuio.formats.index import Index
from gpuio.formats.label_hint import label_hint
from gpuio.formats.recordio import RecordFile
from gpuio.sources.base import EncodedImage, Losses, RecordSource, enough_for
from gpuio.sources.reading import SourceReader
from gpuio.sources.recordio.entries import find_entries
from gpuio.sources.recordio.spacing import EXACT, Spacing, distances, look_at_spacing
from gpuio.storage.identity import FileIdentity, identity_of
from gpuio.storage.paths import PathLike as PathLike
from gpuio.storage.paths import absolute, is_url
from gpuio.storage.shards import beside, exist, find_files, sizes_of

_SAMPLE = 1000  # records whose places are part of the fingerprint
_SIZES = 10_000  # records whose sizes are looked at


@dataclass(frozen=True, slots=True, eq=False)
class RecordIOSource(RecordSource):
    """Records of all files, numbered from 0 in the order in which they lie in them.

    Attributes:
        paths: The .rec files.
        sizes: (files,) int64, bytes in each.
        first: (files + 1,) int64, number of the first record of each file.
        offsets: (count,) int64, where each record starts in its file, in bytes.
        keys: (count,) int64 keys of the .idx; None where there is none.
        idxs: The .idx files; none where the records were found without.
        identities: Of each file; None for one at a URL.
        spacing: How the records are spaced.
        losses: What was left out because it is damaged.
    """

    paths: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    offsets: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64] | None
    idxs: tuple[str, ...] = ()
    identities: tuple[FileIdentity | None, ...] = ()
    spacing: Spacing = EXACT
    losses: Losses = field(default_factory=Losses)

    def __len__(self) -> int:
        return len(self.offsets)

    def __str__(self) -> str:
        return "; ".join(self.paths)

    @property
    def is_remote(self) -> bool:
        return any(map(is_url, self.paths))

    @classmethod
    def open(
        cls,
        path_imgrec: PathLike | Sequence[PathLike],
        path_imgidx: PathLike | Sequence[PathLike] = "",
        *,
        on_error: str = "raise",
    ) -> RecordIOSource:
        """Find the files and their index.

        An index that was found beside its .rec is used if it names all records; if not, that is
        said in a warning, and the .rec is gone through. One that was asked for is used as it is.

        Args:
            path_imgrec: A file or several, as `find_files` takes them: a list, braces, a glob
                pattern, a folder.
            path_imgidx: As many .idx files, given the same way; or one for all, with offsets
                into the files one after the other. By default those beside the .rec files; if
                one has none, the .rec files are gone through.
            on_error: "raise" refuses a .rec that is damaged or shorter than its index; with any
                other policy what is not there is left out, with a warning.

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
        found = find_entries(recs, idxs, sizes, asked=asked, strict=strict)
        index = found.joined.index
        if not len(index):
            why = f": {found.losses.faults[0]}" if found.losses.faults else ""
            raise FormatError(f"{'; '.join(recs)}: no record in it{why}")
        return cls(
            tuple(recs),
            np.array(sizes, np.int64),
            found.joined.first,
            index.offsets,
            index.keys if found.keyed else None,
            tuple(idxs) if found.keyed else (),
            identities,
            found.spacing,
            found.losses,
        )

    @classmethod
    def of_index(cls, path: str, index: Index) -> RecordIOSource:
        """The records of one .rec that an index names.

        Args:
            path: The .rec.
            index: In the order in which they lie in it.
        """
        sizes, first = np.array(sizes_of([path]), np.int64), np.array([0, len(index)])
        spacing, _ = look_at_spacing([path], first, sizes, index.offsets)
        return cls(
            (path,),
            sizes,
            first,
            index.offsets,
            index.keys,
            identities=(identity_of(path),),
            spacing=spacing,
        )

    def file_of(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(N,) int64, the file that holds each of (N,) records."""
        return np.searchsorted(self.first, ids, side="right") - 1

    def reader(self, label_width: int, *, ragged: bool = False) -> SourceReader:
        from gpuio.sources.recordio.reading import RecordIOReader

        return RecordIOReader(self, label_width, ragged=ragged)

    def batch_nbytes(self, count: int) -> int:
        some = np.linspace(0, len(self) - 1, min(len(self), _SIZES)).astype(np.int64)
        apart = np.minimum(self.nbytes(some), self.spacing.limit)
        return enough_for(apart if self.spacing.limit else self.spacing.lengths, count)

    def label_counts(self) -> npt.NDArray[np.int64]:
        from gpuio.sources.recordio.label_counts import label_counts

        return label_counts(self)

    def place_of(self, record: int) -> tuple[int, int]:
        """The number of the file that holds a record, and where it starts there, in bytes."""
        number = int(np.searchsorted(self.first, record, side="right")) - 1
        return number, int(self.offsets[record])

    def offsets_of(self, number: int) -> npt.NDArray[np.int64]:
        """(count,) int64, where the records of a file start, in bytes, ascending."""
        return self.offsets[self.first[number] : self.first[number + 1]]

    def nbytes(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(N,) int64, bytes from the start of each of (N,) records to that of the next.

        The last one of a file goes to its end; records that the index leaves out count to the one
        before them.
        """
        return distances(ids, self.first, self.sizes, self.offsets)

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
        number, offset = self.place_of(record)
        return f"{self.paths[number]}: record {record} at byte {offset}"

    def hint(self, record: int) -> str:
        """What to do with a record without an image, or with other labels than were asked for."""
        try:
            header, image = unpack(self.payload(record))
        except (OSError, ValueError):
            return ""
        return label_hint(header.label, len(image), first=record in self.first)

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
        number, offset = self.place_of(record)
        with RecordFile(self.paths[number]) as file:
            file.bytes.check_identity(self.identity(number))
            return file.read(offset)[0]

    def identity(self, number: int) -> FileIdentity | None:
        """The file of that number as it was opened first; None for one at a URL."""
        return self.identities[number] if self.identities else None


def _beside(recs: list[str]) -> list[str]:
    """The .idx of each file; none, if one has none."""
    idxs = [beside(rec, ".idx") for rec in recs]
    return idxs if exist(idxs) else []
