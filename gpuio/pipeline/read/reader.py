"""The first room: records from the files into host memory that the device can read."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import LARGE, Device
from gpuio.devices.out_of_memory import naming_batch
from gpuio.devices.ring import Ring, Slot
from gpuio.errors import GpuioError, LabelError, ReadError
from gpuio.formats.index import LARGEST_KEY
from gpuio.formats.recordio import frame
from gpuio.kernels.records import RECORD, SPAN, unpack_records
from gpuio.pipeline.read.frames import SecondLook, frame_nbytes
from gpuio.pipeline.read.spans import LocalFiles, files_of
from gpuio.samplers import Selection
from gpuio.sources.dataset import Dataset
from gpuio.storage.location import is_url

_LONGEST_SPAN = 4 << 20  # bytes read by one call: long enough for a disk, short enough to share
_SAMPLE = 10_000  # records whose sizes are looked at
_AHEAD_NBYTES = 32 << 20  # on the way from URLs, beside the batch that is waited for
_FEWEST, _MOST = 2, 16  # batches that these are
_MOST_ID = np.uint64(LARGEST_KEY)  # in a .lst and as an int64
_DEVIATIONS = 5  # of the size of a batch: one in millions is larger


@dataclass(frozen=True, slots=True)
class Samples:
    """What a batch is besides its pixels; it travels through every room.

    Attributes:
        ids: (N,) int64 record numbers.
        keys: (N,) int64, from the .idx, else the ids in the record headers; uint64 where one of
            these is 2**63 or more.
        labels: (N, W) float32.
        pad: How many at the end only fill the batch up.
        faults: By place in the batch, why a sample could not be read or decoded.
        widths: (N,) int64, how many of its W labels each sample has; None where that is all.
    """

    ids: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64 | np.uint64]
    labels: npt.NDArray[np.float32]
    pad: int
    faults: dict[int, GpuioError] = field(default_factory=dict)
    widths: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class RecordBatch:
    """Encoded images of one batch, all in one slot.

    Attributes:
        samples: Whose images they are.
        address: (N,) uint64, where each encoded image starts.
        nbytes: (N,) int64; 0 where the record is at fault.
        slot: What the decoder gives back once the images are read.
    """

    samples: Samples
    address: npt.NDArray[np.uint64]
    nbytes: npt.NDArray[np.int64]
    slot: Slot


Relabel = Callable[[npt.NDArray[np.int64]], tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]]
"""Ids of image records, (N,) int64, to their labels, (N, W) float32, and how many of these each
has, (N,) int64; 0 where there are none."""
LabelCheck = Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], dict[int, str]]
"""(N, W) float32 labels, and (N,) int64 how many each sample has, to what is wrong, by place."""


class RecordReader:
    """Reads batches of records, by number, into the slots of a ring.

    Args:
        dataset: Where the records lie.
        label_width: W, labels that every record must have.
        relabel: Gives labels by the id in the record header, instead of those in the records.
        ragged: Allows records with fewer labels, and says which of them are wrong.
        device: Whose host memory to use.
    """

    def __init__(
        self,
        dataset: Dataset,
        device: Device,
        *,
        label_width: int = 1,
        relabel: Relabel | None = None,
        ragged: LabelCheck | None = None,
    ) -> None:
        self.dataset = dataset
        self.label_width = label_width
        self._relabel = relabel
        self._ragged = ragged
        self._device = device
        self._look_again = SecondLook(dataset)
        self._files: LocalFiles | None = None

    def nbytes(self, count: int) -> int:
        """Bytes that hold almost every choice of `count` records; judged by a sample of them."""
        dataset, spacing = self.dataset, self.dataset.spacing
        some = np.linspace(0, len(dataset) - 1, min(len(dataset), _SAMPLE)).astype(np.int64)
        apart = np.minimum(dataset.nbytes(some), spacing.limit)
        sizes = apart if spacing.limit else spacing.lengths
        return int(count * sizes.mean() + _DEVIATIONS * sizes.std() * count**0.5)

    def ahead(self, count: int) -> int:
        """Batches of `count` records to have on the way from URLs, beside the next one."""
        if not any(map(is_url, self.dataset.paths)):
            return 0
        return min(max(_AHEAD_NBYTES // max(self.nbytes(count), 1), _FEWEST), _MOST)

    def __call__(
        self, batches: Iterable[Selection], ring: Ring, ahead: int = 0
    ) -> Generator[RecordBatch, None, None]:
        """One slot of `ring` for each selection of records.

        Args:
            batches: What to read.
            ring: With more than `ahead` slots.
            ahead: Batches to begin before the first of them is handed out.
        """
        self._files = files_of(self.dataset)
        return self._run(batches, ring, ahead, self._files)

    def close(self) -> None:
        """Let the reads under way end, those of files at URLs unfinished."""
        if self._files is not None:
            self._files.interrupt()

    def _run(
        self, batches: Iterable[Selection], ring: Ring, ahead: int, files: LocalFiles
    ) -> Generator[RecordBatch, None, None]:
        begun: deque[_Reading] = deque()
        try:
            files.open()
            for selection in batches:
                begun.append(self._read(selection, files, ring.acquire()))
                if len(begun) > ahead:
                    yield self._finish(begun.popleft(), files)
            while begun:
                yield self._finish(begun.popleft(), files)
        finally:
            files.close()

    def _read(self, selection: Selection, files: LocalFiles, slot: Slot) -> _Reading:
        """Begin to read the records of a batch into its slot."""
        ids = selection.ids
        records = np.zeros(len(ids), RECORD)
        records["nbytes"] = self._sizes(ids, files)
        with naming_batch("record numbers", ids):
            memory, starved = _room(records["nbytes"], slot)
        places = np.argsort(ids, kind="stable")  # neighbours in the file become one read
        sizes = records["nbytes"][places]
        starts = np.cumsum(sizes) - sizes
        records["address"][places] = starts.astype(np.uint64) + np.uint64(memory.ctypes.data)
        spans = self._spans(ids[places], records["address"][places], sizes)
        return _Reading(selection, slot, records, places, starved, spans, files.begin(spans))

    def _sizes(self, ids: npt.NDArray[np.int64], files: LocalFiles) -> npt.NDArray[np.int64]:
        """(N,) int64, how many bytes to read of each record."""
        sizes = self.dataset.nbytes(ids)
        far = np.flatnonzero(sizes > self.dataset.spacing.limit)
        if len(far):
            sizes[far] = np.minimum(sizes[far], frame_nbytes(self.dataset, ids[far], files))
        return sizes

    def _finish(self, reading: _Reading, files: LocalFiles) -> RecordBatch:
        """The batch, once its records are there."""
        files.finish(reading.asked)
        selection, records, slot = reading.selection, reading.records, reading.slot
        ids, dataset, places = selection.ids, self.dataset, reading.places
        addresses, sizes = records["address"][places], records["nbytes"][places]
        failures = np.zeros(len(ids), np.int64)
        records["nbytes"][places], failures[places] = _received(addresses, sizes, reading.spans)
        failures[reading.starved] = errno.ENOMEM
        labels = np.zeros((len(ids), self.label_width), np.float32)
        unpack_records(records, labels, self._ragged is not None)
        faults = self._repair(ids, records, labels, failures, slot)
        header_ids = records["id"]
        keys = _narrow(header_ids) if dataset.keys is None else dataset.keys[ids]
        widths = None if self._ragged is None else records["label_count"].copy()
        samples = Samples(ids, keys, labels, selection.pad, faults, widths)
        self._check(samples, records)
        if self._relabel is not None:
            self._replace_labels(samples, header_ids)
        if self._ragged is not None and widths is not None:
            self._check_ragged(samples, self._ragged, widths)
        records["nbytes"][list(samples.faults)] = 0
        return RecordBatch(samples, records["address"].copy(), records["nbytes"].copy(), slot)

    def _spans(
        self,
        ids: npt.NDArray[np.int64],
        addresses: npt.NDArray[np.uint64],
        sizes: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.void]:
        """Where to read ascending records, and to which ascending addresses: neighbours at once.

        Returns:
            (M,) SPAN, where "fd" is the number of the file.
        """
        offsets, numbers = self.dataset.offsets[ids], self.dataset.file_of(ids)
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

    def _check(self, samples: Samples, records: npt.NDArray[np.void]) -> None:
        """Name the fault of every record that has other labels."""
        if self._relabel is None:
            counts = records["label_count"]
            fits = counts <= self.label_width if self._ragged else counts == self.label_width
            for place in np.flatnonzero((records["sound"] == 1) & ~fits).tolist():
                record = int(samples.ids[place])
                found = f"it has {records['label_count'][place]} labels"
                expected = f", not label_width={self.label_width}{self.dataset.hint(record)}"
                if self._ragged is not None:
                    expected = f", more than label_width or label_pad_width={self.label_width}"
                samples.faults[place] = LabelError(
                    f"{self.dataset.where(record)}, key {samples.keys[place]}: {found}{expected}"
                )

    def _repair(
        self,
        ids: npt.NDArray[np.int64],
        records: npt.NDArray[np.void],
        labels: npt.NDArray[np.float32],
        failures: npt.NDArray[np.int64],
        slot: Slot,
    ) -> dict[int, GpuioError]:
        """Read anew what is not sound, since the index may be wrong; the faults, by place.

        Args:
            ids: (N,) numbers of the records.
            records: (N,) RECORD, what was read; sound records are put in place.
            labels: (N, W) float32, the labels of these records; those of sound ones are put in.
            failures: (N,) errno of records that the system could not read, else 0.
            slot: Where to.
        """
        faults: dict[int, GpuioError] = {}
        payloads: dict[int, bytes] = {}
        for place in np.flatnonzero(records["sound"] == 0).tolist():
            record, reason = int(ids[place]), int(failures[place])
            if reason:
                where = self._look_again.where(record)
                faults[place] = ReadError(f"{where}: {OSError(reason, os.strerror(reason))}")
                continue
            found = self._look_again(record)
            if isinstance(found, GpuioError):
                faults[place] = found
            else:
                payloads[place] = found
        if payloads:
            frames, places = [frame(payload) for payload in payloads.values()], [*payloads]
            some, rows = np.zeros(len(places), RECORD), labels[places]
            sizes = some["nbytes"] = np.array([len(each) for each in frames])
            memory = slot.extend(int(sizes.sum()))
            memory[:] = np.frombuffer(b"".join(frames), np.uint8)
            starts = np.cumsum(sizes) - sizes
            some["address"] = starts.astype(np.uint64) + np.uint64(memory.ctypes.data)
            unpack_records(some, rows, self._ragged is not None)
            records[places], labels[places] = some, rows
        return faults

    def _replace_labels(self, samples: Samples, header_ids: npt.NDArray[np.uint64]) -> None:
        assert self._relabel is not None
        labels, widths = self._relabel(header_ids.astype(np.int64))
        beyond = header_ids > _MOST_ID  # no line of a list can have such an id
        labels[beyond], widths[beyond] = 0, 0
        if samples.widths is not None:
            samples.widths[:] = widths
        samples.labels[:, : labels.shape[1]] = labels
        for place in np.flatnonzero(widths == 0).tolist():
            samples.faults.setdefault(
                place,
                LabelError(
                    f"{self.dataset.where(int(samples.ids[place]))}: "
                    f"path_imglist has no line for its id {header_ids[place]}"
                ),
            )

    def _check_ragged(
        self, samples: Samples, check: LabelCheck, widths: npt.NDArray[np.int64]
    ) -> None:
        """Name what is wrong with labels of any number; what is at fault has none."""
        widths[list(samples.faults)] = 0
        for place, reason in check(samples.labels, widths).items():
            where = f"{self.dataset.where(int(samples.ids[place]))}, key {samples.keys[place]}"
            samples.faults.setdefault(place, LabelError(f"{where}: {reason}"))
        widths[list(samples.faults)] = 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """A batch on its way into memory.

    Attributes:
        selection: What it holds.
        slot: Where to.
        records: (N,) RECORD, frames.
        places: (N,) in the order in which they lie in the files.
        starved: Places of records for which there is no memory.
        spans: (M,) SPAN, what is read.
        asked: What the files gave for it.
    """

    selection: Selection
    slot: Slot
    records: npt.NDArray[np.void]
    places: npt.NDArray[np.int64]
    starved: list[int]
    spans: npt.NDArray[np.void]
    asked: Any


def _room(sizes: npt.NDArray[np.int64], slot: Slot) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Memory for records, or for all but the largest of them.

    Args:
        sizes: (N,) bytes of each; 0 is written where there is no memory for so many.
        slot: Whose memory.

    Returns:
        The memory, and the places of the records that it is not for.

    Raises:
        MemoryError: There is none even for records of at most `LARGE` bytes.
    """
    starved: list[int] = []
    while True:
        try:
            return slot.reserve(int(sizes.sum())), starved
        except MemoryError:
            largest = int(sizes.argmax())
            if sizes[largest] <= LARGE:
                raise
            sizes[largest] = 0
            starved.append(largest)


def _narrow(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64 | np.uint64]:
    """(N,) ids as int64, unless one of them needs uint64."""
    return ids.copy() if (ids > _MOST_ID).any() else ids.astype(np.int64)


def _received(
    addresses: npt.NDArray[np.uint64], sizes: npt.NDArray[np.int64], spans: npt.NDArray[np.void]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How much is there of each record at ascending addresses, and why not more.

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
