"""Records whose length the index does not tell: read by their own heads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import CorruptRecordError, GpuioError, ReadError, RemoteError
from gpuio.formats.image_record import unpack
from gpuio.formats.index import Index
from gpuio.formats.index_fit import line_of
from gpuio.formats.recordio import HEAD_NBYTES, RecordFile, begin_here, frame_ends
from gpuio.kernels.records import SPAN
from gpuio.sources.recordio.spans import LocalFiles

if TYPE_CHECKING:
    from gpuio.sources.recordio.source import RecordIOSource

Int64s = npt.NDArray[np.int64]

_LINES_SOUGHT: Final = 20  # lines of an index that are looked up for messages
_STEPS_BACK: Final = 16  # entries of an index among which the record around a place is looked for


def frame_nbytes(dataset: RecordIOSource, ids: Int64s, files: LocalFiles) -> Int64s:
    """(N,) int64, bytes on disk of each of (N,) records, as their own heads say.

    Where there is no whole record, these are the bytes of a head.
    """
    numbers, offsets = dataset.file_of(ids), dataset.offsets[ids]
    sizes = dataset.sizes[numbers]

    def read(rows: Int64s, places: Int64s) -> npt.NDArray[np.uint32]:
        words = np.zeros((len(rows), 2), np.uint32)
        within = np.flatnonzero(places + HEAD_NBYTES <= sizes[rows])
        spans = np.zeros(len(within), SPAN)
        spans["fd"], spans["offset"] = numbers[rows[within]], places[within]
        spans["nbytes"] = HEAD_NBYTES
        spans["dst"] = words.ctypes.data + HEAD_NBYTES * within
        files.finish(files.begin(spans))
        return words

    ends = frame_ends(offsets, sizes, read)
    return np.where(ends > 0, ends - offsets, HEAD_NBYTES)


class SecondLook:
    """Reads records by themselves that are not sound as the index says that they lie.

    Args:
        dataset: Where they lie.
    """

    def __init__(self, dataset: RecordIOSource) -> None:
        self._dataset = dataset
        self._sought = 0

    def __call__(self, record: int) -> bytes | GpuioError:
        """The payload of a record; or, where it is damaged, the exact reason.

        Raises:
            FormatError: The file is not the one that was opened first.
            RemoteError: A store is out of order, which is no fault of the record.
        """
        dataset = self._dataset
        number = int(dataset.file_of(np.array([record]))[0])
        offset, path = int(dataset.offsets[record]), dataset.paths[number]
        try:
            file = RecordFile(path)
        except OSError as error:
            return ReadError(f"{self.where(record)}: {error}")
        with file:
            file.bytes.check_identity(dataset.identity(number))
            try:
                payload, end = file.read(offset)
                self._check_inside(record, number, file, end)
                unpack(payload)
            except CorruptRecordError as error:
                around = self._around(record, number, file)
                reason = error.reason if around is None else self._no_record(record, around)
            except RemoteError:
                raise
            except OSError as error:
                return ReadError(f"{self.where(record)}: {error}")
            except ValueError as error:
                reason = str(error)
            else:
                return payload
        if dataset.keys is not None:
            reason = f"key {dataset.keys[record]}: {reason}"
        return CorruptRecordError(reason, path=path, offset=offset)

    def where(self, record: int) -> str:
        """Place and key of a record, for messages."""
        where, keys = self._dataset.where(record), self._dataset.keys
        return where if keys is None else f"{where}, key {keys[record]}"

    def _check_inside(self, record: int, number: int, file: RecordFile, end: int) -> None:
        """Find out whether other records begin inside a record, which is too long then.

        A line of an index that leads to somewhere inside, where no record begins, does not matter.

        Raises:
            CorruptRecordError: One does.
        """
        dataset = self._dataset
        offset, first = int(dataset.offsets[record]), int(dataset.first[number])
        places = dataset.offsets[first : int(dataset.first[number + 1])]
        after, stop = np.searchsorted(places, [offset + 1, end])
        words = (places[after:stop] - offset) // 4
        if not len(words):
            return
        frame = np.frombuffer(file.bytes.pread(end - offset, offset), "<u4")
        words = words[words < len(frame) - 1]
        heads = np.stack([frame[words], frame[words + 1]], 1).view(np.uint8)
        inside = words[begin_here(heads)]
        if len(inside):
            other = offset + 4 * int(inside[0])
            reason = f"its length leads to byte {end}, past the record at byte {other}"
            raise CorruptRecordError(reason, path=file.path, offset=offset)

    def _around(self, record: int, number: int, file: RecordFile) -> int | None:
        """Where the record begins that goes on past the place of `record`, or None."""
        dataset = self._dataset
        offset, first = int(dataset.offsets[record]), int(dataset.first[number])
        before = dataset.offsets[max(first, record - _STEPS_BACK) : record]
        for place in np.unique(before)[::-1].tolist():
            try:
                if place < offset < file.end(place):
                    return int(place)
            except (CorruptRecordError, OSError):
                continue
        return None

    def _no_record(self, record: int, around: int) -> str:
        """The reason why an entry of an index is wrong that leads into the record `around`."""
        dataset, line = self._dataset, ""
        number = int(dataset.file_of(np.array([record]))[0])
        if len(dataset.idxs) == len(dataset.paths) and dataset.keys is not None:
            self._sought += 1
            if self._sought <= _LINES_SOUGHT:
                one = Index(dataset.keys[record : record + 1], dataset.offsets[record : record + 1])
                line = line_of(one, 0, dataset.idxs[number])
        offset = int(dataset.offsets[record])
        return f"no record begins at byte {offset}{line}; it is inside the record at byte {around}"
