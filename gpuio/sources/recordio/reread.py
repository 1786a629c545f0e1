"""Records read again, one by one, that are not valid where the index says that they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from gpuio.errors import CorruptRecordError, GpuioError, ReadError, RemoteError
from gpuio.formats.image_record import unpack
from gpuio.formats.index import Index
from gpuio.formats.index_fit import line_of
from gpuio.formats.recordio import RecordFile, begin_here

if TYPE_CHECKING:
    from gpuio.sources.recordio.source import RecordIOSource

_LINES: Final = 20  # lines of an index that are searched for, for messages
_ENTRIES_BEFORE: Final = 16  # entries of an index that may lead to the record around an offset


class Rereader:
    """Reads single records by their heads, and tells why one cannot be read.

    Args:
        source: The records.
    """

    def __init__(self, source: RecordIOSource) -> None:
        self._source = source
        self._lines_left = _LINES

    def read(self, record: int) -> bytes | GpuioError:
        """The payload of a record; or, where it is damaged, the exact reason.

        Raises:
            FormatError: The file is not the one that was opened first.
            RemoteError: A store failed, which says nothing about the record.
        """
        source = self._source
        number, offset = source.table.place_of(record)
        try:
            file = source.open_file(number)
        except OSError as error:
            return ReadError(f"{self.where(record)}: {error}")
        with file:
            try:
                payload, end = file.read(offset)
                self._check_inside(number, offset, file, end)
                unpack(payload)
            except CorruptRecordError as error:
                around = self._around(record, file)
                reason = error.reason if around is None else self._no_record(record, around)
            except RemoteError:
                raise
            except OSError as error:
                return ReadError(f"{self.where(record)}: {error}")
            except ValueError as error:
                reason = str(error)
            else:
                return payload
        if source.keys is not None:
            reason = f"key {source.keys[record]}: {reason}"
        return CorruptRecordError(reason, path=source.table.paths[number], offset=offset)

    def where(self, record: int) -> str:
        """Place and key of a record, for messages."""
        where, keys = self._source.where(record), self._source.keys
        return where if keys is None else f"{where}, key {keys[record]}"

    def _check_inside(self, number: int, offset: int, file: RecordFile, end: int) -> None:
        """Raise CorruptRecordError if another record begins inside: its length is wrong then.

        An entry of the index that leads inside, where no record begins, does not count.
        """
        offsets = self._source.table.offsets_of(number)
        after, stop = np.searchsorted(offsets, [offset + 1, end])
        words = (offsets[after:stop] - offset) // 4
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

    def _around(self, record: int, file: RecordFile) -> int | None:
        """Where the record begins that the offset of `record` lies inside of; None for none."""
        source = self._source
        number, offset = source.table.place_of(record)
        first = max(int(source.table.first[number]), record - _ENTRIES_BEFORE)
        for before in np.unique(source.table.offsets[first:record])[::-1].tolist():
            try:
                if before < offset < file.end(before):
                    return int(before)
            except (CorruptRecordError, OSError):
                continue
        return None

    def _no_record(self, record: int, around: int) -> str:
        """Why an entry of an index is wrong that leads into the record at byte `around`."""
        keys, table, idxs = self._source.keys, self._source.table, self._source.idxs
        number, offset = table.place_of(record)
        line = ""
        if len(idxs) == len(table.paths) and keys is not None and self._lines_left:
            self._lines_left -= 1
            entry = Index(keys[record : record + 1], table.offsets[record : record + 1])
            line = line_of(entry, 0, idxs[number])
        return f"no record begins at byte {offset}{line}; it is inside the record at byte {around}"
