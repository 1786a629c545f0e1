"""Batches of records from RecordIO files: neighbours in one read, many reads at once."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.devices.ring import Slot
from gpuio.errors import GpuioError, ReadError
from gpuio.formats.recordio import HEAD_NBYTES, frame, frame_ends
from gpuio.kernels.records import RECORD, SPAN, unpack_records
from gpuio.sources.reading import EncodedBatch, PendingBatch, SourceReader, reserve
from gpuio.sources.recordio.reread import Rereader
from gpuio.sources.recordio.spans import LocalFiles, PendingSpans, RemoteFiles

if TYPE_CHECKING:
    from gpuio.sources.recordio.source import RecordIOSource

Int64s = npt.NDArray[np.int64]

_LONGEST_SPAN: Final = 4 << 20  # bytes of one read: long enough for a disk, short enough to share


class RecordIOReader(SourceReader):
    """Reads batches of records of RecordIO files.

    Args:
        source: The records.
        label_width: W, labels of every record.
        ragged: Whether records may have fewer labels.
    """

    def __init__(self, source: RecordIOSource, label_width: int, *, ragged: bool) -> None:
        self._source, self._label_width, self._ragged = source, label_width, ragged
        kind = RemoteFiles if source.is_remote else LocalFiles
        self._files = kind(source.table.paths, source.identities)
        self._rereader = Rereader(source)

    def open(self) -> None:
        self._files.open()

    def interrupt(self) -> None:
        self._files.interrupt()

    def close(self) -> None:
        self._files.close()

    def begin(self, ids: Int64s, slot: Slot) -> PendingBatch:
        records = np.zeros(len(ids), RECORD)
        records["nbytes"] = self._sizes(ids)
        memory, starved = reserve(records["nbytes"], slot)
        order = np.argsort(ids, kind="stable")  # neighbours in the file become one read
        sizes = records["nbytes"][order]
        starts = np.cumsum(sizes) - sizes
        records["address"][order] = starts.astype(np.uint64) + np.uint64(memory.ctypes.data)
        spans = self._spans(ids[order], records["address"][order], sizes)
        asked = self._files.begin(spans)
        pending = _Pending(ids, slot, records, order, starved, spans, asked)
        return lambda: self._finish(pending)

    def _finish(self, pending: _Pending) -> EncodedBatch:
        """The records of a batch, once they were read; those that are not valid are read again."""
        self._files.finish(pending.asked)
        ids, records, order = pending.ids, pending.records, pending.order
        failures = np.zeros(len(ids), np.int64)
        records["nbytes"][order], failures[order] = _received(
            records["address"][order], records["nbytes"][order], pending.spans
        )
        failures[pending.starved] = errno.ENOMEM
        labels = np.zeros((len(ids), self._label_width), np.float32)
        unpack_records(records, labels, self._ragged)
        faults = self._repair(pending, labels, failures)
        return EncodedBatch(
            records["address"].copy(),
            records["nbytes"].copy(),
            labels,
            records["label_count"].copy(),
            records["id"].copy(),
            faults,
        )

    def _sizes(self, ids: Int64s) -> Int64s:
        """(N,) int64, how many bytes to read of each record."""
        sizes = self._source.nbytes(ids)
        far = np.flatnonzero(sizes > self._source.spacing.limit)
        if len(far):
            sizes[far] = np.minimum(sizes[far], self._sizes_by_heads(ids[far]))
        return sizes

    def _sizes_by_heads(self, ids: Int64s) -> Int64s:
        """(N,) int64, bytes of records as their own heads tell; of a head where none is whole."""
        table = self._source.table
        numbers, offsets = table.file_of(ids), table.offsets[ids]
        sizes = table.sizes[numbers]

        def read(rows: Int64s, places: Int64s) -> npt.NDArray[np.uint32]:
            words = np.zeros((len(rows), 2), np.uint32)
            spans = np.zeros(len(rows), SPAN)
            spans["fd"], spans["offset"], spans["nbytes"] = numbers[rows], places, HEAD_NBYTES
            spans["dst"] = words.ctypes.data + HEAD_NBYTES * np.arange(len(rows))
            self._files.finish(self._files.begin(spans))
            return words

        ends = frame_ends(offsets, sizes, read)
        return np.where(ends > 0, ends - offsets, HEAD_NBYTES)

    def _spans(
        self, ids: Int64s, addresses: npt.NDArray[np.uint64], sizes: Int64s
    ) -> npt.NDArray[np.void]:
        """Where to read ascending records, and to which ascending addresses: neighbours at once.

        Returns:
            (M,) SPAN, where "fd" is the number of the file.
        """
        table = self._source.table
        offsets, numbers = table.offsets[ids], table.file_of(ids)
        ends = offsets + sizes
        new = np.ones(len(ids), bool)
        new[1:] = (offsets[1:] != ends[:-1]) | (numbers[1:] != numbers[:-1])
        starts = np.flatnonzero(new)
        stops = np.append(starts[1:], len(ids)) - 1
        runs = zip(
            numbers[starts].tolist(),
            offsets[starts].tolist(),
            ends[stops].tolist(),
            addresses[starts].tolist(),
            strict=True,
        )
        rows = [
            (number, at, min(_LONGEST_SPAN, end - at), address + at - offset, 0, 0)
            for number, offset, end, address in runs
            for at in range(offset, end, _LONGEST_SPAN)
        ]
        return np.array(rows, SPAN)

    def _repair(
        self,
        pending: _Pending,
        labels: npt.NDArray[np.float32],
        failures: Int64s,
    ) -> dict[int, GpuioError]:
        """Read records again that are not valid, since the index may be wrong.

        Args:
            pending: The batch; records that turn out to be valid are put into its table.
            labels: (N, W) float32, the labels of these records; those of valid ones are put in.
            failures: (N,) errno of records that the system could not read, else 0.

        Returns:
            By place, why a record cannot be read.
        """
        faults: dict[int, GpuioError] = {}
        payloads: dict[int, bytes] = {}
        for place in np.flatnonzero(pending.records["valid"] == 0).tolist():
            record, reason = int(pending.ids[place]), int(failures[place])
            if reason:
                where = self._rereader.where(record)
                faults[place] = ReadError(f"{where}: {OSError(reason, os.strerror(reason))}")
                continue
            found = self._rereader.read(record)
            if isinstance(found, GpuioError):
                faults[place] = found
            else:
                payloads[place] = found
        if payloads:
            self._put(payloads, pending, labels)
        return faults

    def _put(
        self, payloads: dict[int, bytes], pending: _Pending, labels: npt.NDArray[np.float32]
    ) -> None:
        """Put records that were read by themselves into a batch, by their places."""
        places, frames = [*payloads], [frame(payload) for payload in payloads.values()]
        records, rows = np.zeros(len(places), RECORD), labels[places]
        sizes = records["nbytes"] = np.array([len(each) for each in frames])
        memory = pending.slot.extend(int(sizes.sum()))
        memory[:] = np.frombuffer(b"".join(frames), np.uint8)
        starts = np.cumsum(sizes) - sizes
        records["address"] = starts.astype(np.uint64) + np.uint64(memory.ctypes.data)
        unpack_records(records, rows, self._ragged)
        pending.records[places], labels[places] = records, rows


@dataclass(frozen=True, slots=True)
class _Pending:
    """A batch that is being read.

    Attributes:
        ids: (N,) int64 numbers of the records.
        slot: The memory.
        records: (N,) RECORD, frames.
        order: (N,) places in the batch, in the order in which the records lie in the files.
        starved: Places of records for which there is no memory.
        spans: (M,) SPAN, what is read.
        asked: The reads that were begun.
    """

    ids: Int64s
    slot: Slot
    records: npt.NDArray[np.void]
    order: Int64s
    starved: list[int]
    spans: npt.NDArray[np.void]
    asked: PendingSpans


def _received(
    addresses: npt.NDArray[np.uint64], sizes: Int64s, spans: npt.NDArray[np.void]
) -> tuple[Int64s, Int64s]:
    """How many bytes of each record at ascending addresses were read, and why not more.

    Returns:
        (N,) int64 bytes; and (N,) int64, the errno of a read that failed, 0 where none did.
    """
    got, begins, failures = sizes.copy(), addresses.astype(np.int64), np.zeros_like(sizes)
    for span in spans[spans["got"] != spans["nbytes"]]:
        # What an earlier batch left there must not pass for a record.
        start = int(span["dst"])
        stop, end = start + int(span["got"]), start + int(span["nbytes"])
        cut = (begins < end) & (begins + sizes > stop)
        got[cut] = np.clip(stop - begins[cut], 0, got[cut])
        failures[cut] = span["errno"]
    return got, failures
