"""The first room: records from the files into host memory that the device can read."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Generator, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from gpuio.backends.base import Backend
from gpuio.backends.ring import Ring, Slot
from gpuio.errors import CorruptRecordError, GpuioError, LabelError
from gpuio.format.image_record import unpack
from gpuio.format.recordio import RecordFile
from gpuio.kernels.records import RECORD, SPAN, read_spans, unpack_records
from gpuio.reader.dataset import Dataset
from gpuio.reader.order import Selection

_LONGEST_SPAN = 4 << 20  # bytes read by one call: long enough for a disk, short enough to share
_SAMPLE = 10_000  # records whose sizes are looked at
_DEVIATIONS = 5  # of the size of a batch: one in millions is larger
_READERS = 8  # reads in flight at once, when the records of a batch are scattered


@dataclass(frozen=True, slots=True)
class Samples:
    """What a batch is besides its pixels; it travels through every room.

    Attributes:
        ids: (N,) int64 record numbers.
        keys: (N,) int64, from the .idx, else the ids in the record headers.
        labels: (N, W) float32.
        pad: How many at the end only fill the batch up.
        faults: By place in the batch, why a sample cannot be had.
        widths: (N,) int64, how many of its W labels each sample has; None where that is all.
    """

    ids: npt.NDArray[np.int64]
    keys: npt.NDArray[np.int64]
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


Relabel = Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float32]]
"""Ids of image records, (N,) int64, to their labels, (N, W) float32; NaN where there are none."""
LabelCheck = Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], dict[int, str]]
"""(N, W) float32 labels, and (N,) int64 how many each sample has, to what is wrong, by place."""


class RecordReader:
    """Reads batches of records, by number, into the slots of a ring.

    Args:
        dataset: Where the records lie.
        label_width: W, labels that every record must have.
        relabel: Gives labels by the id in the record header, instead of those in the records.
        ragged: Allows records with fewer labels, and says which of them are wrong.
        backend: Whose host memory to use.
    """

    def __init__(
        self,
        dataset: Dataset,
        backend: Backend,
        *,
        label_width: int = 1,
        relabel: Relabel | None = None,
        ragged: LabelCheck | None = None,
    ) -> None:
        self.dataset = dataset
        self.label_width = label_width
        self._relabel = relabel
        self._ragged = ragged
        self._backend = backend

    def nbytes(self, count: int) -> int:
        """Bytes that hold almost every choice of `count` records; judged by a sample of them."""
        dataset = self.dataset
        some = np.linspace(0, len(dataset) - 1, min(len(dataset), _SAMPLE)).astype(np.int64)
        sizes = dataset.nbytes(some)
        return int(count * sizes.mean() + _DEVIATIONS * sizes.std() * count**0.5)

    def __call__(
        self, batches: Iterable[Selection], ring: Ring
    ) -> Generator[RecordBatch, None, None]:
        """One slot of `ring` for each selection of records."""
        with ExitStack() as files:
            opened = [files.enter_context(RecordFile(path)) for path in self.dataset.paths]
            for selection in batches:
                yield self._read(selection, opened, ring.acquire())

    def _read(self, selection: Selection, files: list[RecordFile], slot: Slot) -> RecordBatch:
        ids, dataset = selection.ids, self.dataset
        records = np.zeros(len(ids), RECORD)
        records["nbytes"] = dataset.nbytes(ids)
        places = np.argsort(ids, kind="stable")  # neighbours in the file become one read
        sizes = records["nbytes"][places]
        starts = np.cumsum(sizes) - sizes
        memory = slot.reserve(int(sizes.sum()))
        records["address"][places] = starts.astype(np.uint64) + np.uint64(memory.ctypes.data)
        addresses = records["address"][places]
        records["nbytes"][places] = self._fill(ids[places], addresses, sizes, files)
        labels = np.zeros((len(ids), self.label_width), np.float32)
        unpack_records(records, labels, self._ragged is not None)
        header_ids = records["id"].astype(np.int64)
        keys = header_ids if dataset.keys is None else dataset.keys[ids]
        widths = None if self._ragged is None else records["label_count"].copy()
        samples = Samples(ids, keys, labels, selection.pad, widths=widths)
        self._check(samples, records)
        if self._relabel is not None:
            self._replace_labels(samples, header_ids)
        if self._ragged is not None and widths is not None:
            self._check_ragged(samples, self._ragged, widths)
        records["nbytes"][list(samples.faults)] = 0
        return RecordBatch(samples, records["address"].copy(), records["nbytes"].copy(), slot)

    def _fill(
        self,
        ids: npt.NDArray[np.int64],
        addresses: npt.NDArray[np.uint64],
        sizes: npt.NDArray[np.int64],
        files: list[RecordFile],
    ) -> npt.NDArray[np.int64]:
        """Read ascending records to ascending addresses, neighbours with one call.

        Returns:
            (N,) int64, how much of each could be read.
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
            (files[number].fileno(), at, min(_LONGEST_SPAN, end - at), address + at - offset, 0)
            for number, offset, end, address in runs
            for at in range(offset, end, _LONGEST_SPAN)
        ]
        spans = np.array(rows, SPAN)
        if hasattr(os, "pread"):
            pread = ctypes.cast(ctypes.CDLL(None).pread, ctypes.c_void_p).value or 0
            read_spans(len(spans), _READERS, spans.ctypes.data, pread)
        else:
            by_number = {file.fileno(): file for file in files}
            for span in spans:
                memory = (ctypes.c_uint8 * int(span["nbytes"])).from_address(int(span["dst"]))
                span["got"] = by_number[int(span["fd"])].readinto(memory, int(span["offset"]))
        got, begins = sizes.copy(), addresses.astype(np.int64)
        for span in spans[spans["got"] != spans["nbytes"]]:
            # What an earlier batch left there must not pass for a record.
            start = int(span["dst"])
            stop, end = start + int(span["got"]), start + int(span["nbytes"])
            cut = (begins < end) & (begins + sizes > stop)
            got[cut] = np.clip(stop - begins[cut], 0, got[cut])
        return got

    def _check(self, samples: Samples, records: npt.NDArray[np.void]) -> None:
        """Name the fault of every record that is damaged or has other labels."""
        for place in np.flatnonzero(records["sound"] == 0).tolist():
            samples.faults[place] = self._diagnose(int(samples.ids[place]))
        if self._relabel is None:
            counts = records["label_count"]
            fits = counts <= self.label_width if self._ragged else counts == self.label_width
            for place in np.flatnonzero((records["sound"] == 1) & ~fits).tolist():
                samples.faults[place] = LabelError(
                    f"{self.dataset.where(int(samples.ids[place]))}, key {samples.keys[place]}: "
                    f"it has {records['label_count'][place]} labels, not label_width="
                    f"{self.label_width}"
                )

    def _diagnose(self, record: int) -> GpuioError:
        """Read a damaged record again, by itself, for the exact reason."""
        path = self.dataset.paths[int(self.dataset.file_of(np.array([record]))[0])]
        offset = int(self.dataset.offsets[record])
        reason = "it could be read only when it was read again; is the file being written to?"
        try:
            unpack(self.dataset.payload(record))
        except CorruptRecordError as error:
            reason = error.reason
        except (OSError, ValueError) as error:
            reason = str(error)
        if self.dataset.keys is not None:
            reason = f"key {self.dataset.keys[record]}: {reason}"
        return CorruptRecordError(reason, path=path, offset=offset)

    def _replace_labels(self, samples: Samples, header_ids: npt.NDArray[np.int64]) -> None:
        assert self._relabel is not None
        labels = self._relabel(header_ids)
        missing = np.isnan(labels)
        if samples.widths is not None:
            samples.widths[:] = (~missing).sum(axis=1)
            labels[missing] = 0
            missing = missing[:, :1]
        samples.labels[:, : labels.shape[1]] = labels
        for place in np.flatnonzero(missing.any(axis=1)).tolist():
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
