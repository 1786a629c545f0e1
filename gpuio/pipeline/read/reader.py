"""The read stage: records from a source into host memory that the device can read."""

from __future__ import annotations

import ctypes
from collections import deque
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.devices.out_of_memory import naming_batch
from gpuio.devices.ring import Ring, Slot
from gpuio.errors import GpuioError, LabelError
from gpuio.formats.index import LARGEST_KEY
from gpuio.pipeline.cache.entries import Found
from gpuio.pipeline.cache.image_cache import ImageCache
from gpuio.samplers import Selection
from gpuio.sources.base import RecordSource
from gpuio.sources.labels import Relabel
from gpuio.sources.reading import EncodedBatch, PendingBatch, SourceReader

_AHEAD_NBYTES: Final = 32 << 20  # asked of remote sources ahead of the batch that is waited for
_LEAST_AHEAD, _MOST_AHEAD = 2, 16  # batches that these are
_LARGEST_ID: Final = np.uint64(LARGEST_KEY)  # in a .lst and as an int64


@dataclass(frozen=True, slots=True)
class Samples:
    """What a batch is besides its pixels; every stage hands it to the next.

    Attributes:
        ids: (N,) int64 record numbers.
        keys: (N,) int64 keys of the source, else the ids of the images; uint64 where one of
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
        samples: The samples that have these images.
        address: (N,) uint64, where each encoded image starts.
        nbytes: (N,) int64; 0 where the record is at fault.
        slot: Owns the memory; given back once the images are decoded.
        found: What the cache has of the records; None without a cache.
    """

    samples: Samples
    address: npt.NDArray[np.uint64]
    nbytes: npt.NDArray[np.int64]
    slot: Slot
    found: Found | None = None

    @property
    def cached(self) -> npt.NDArray[np.bool_]:
        """(N,) bool, images that are in the cache; they were not read."""
        return np.zeros(len(self.nbytes), bool) if self.found is None else self.found.hit

    @property
    def is_cached(self) -> bool:
        """Whether all images are in the cache: the decoder has nothing to do with the batch."""
        return self.found is not None and bool(self.found.address.all())

    def encoded(self, place: int) -> bytes:
        """The encoded image at `place`, copied."""
        return ctypes.string_at(int(self.address[place]), int(self.nbytes[place]))


LabelCheck = Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], dict[int, str]]
"""(N, W) float32 labels, and (N,) int64 how many each sample has, to what is wrong, by place."""


class RecordReader:
    """Reads batches of records, by number, into the slots of a ring.

    Args:
        source: Where the records come from.
        label_width: W, labels that every record must have.
        relabel: Gives labels by the ids of the images, instead of the stored ones.
        ragged: Allows records with fewer labels, and says which of them are wrong.
        cache: Has records that need not be read.
    """

    def __init__(
        self,
        source: RecordSource,
        *,
        label_width: int = 1,
        relabel: Relabel | None = None,
        ragged: LabelCheck | None = None,
        cache: ImageCache | None = None,
    ) -> None:
        self.source = source
        self.label_width = label_width
        self._relabel = relabel
        self._ragged = ragged
        self._cache = cache
        self._reader: SourceReader | None = None

    def ahead(self, count: int) -> int:
        """Batches of `count` records to begin ahead of the next one, where reads wait long."""
        if not self.source.is_remote:
            return 0
        nbytes = max(self.source.batch_nbytes(count), 1)
        return min(max(_AHEAD_NBYTES // nbytes, _LEAST_AHEAD), _MOST_AHEAD)

    def __call__(
        self, batches: Iterable[Selection], ring: Ring, ahead: int = 0
    ) -> Generator[RecordBatch, None, None]:
        """One slot of `ring` for each selection of records.

        Args:
            batches: What to read.
            ring: With more than `ahead` slots.
            ahead: Batches to begin before the first of them is returned.
        """
        self._reader = self.source.reader(self.label_width, ragged=self._ragged is not None)
        return self._run(batches, ring, ahead, self._reader)

    def close(self) -> None:
        """End the reads under way as far as possible, so that no thread waits for them."""
        if self._reader is not None:
            self._reader.interrupt()

    def _run(
        self, batches: Iterable[Selection], ring: Ring, ahead: int, reader: SourceReader
    ) -> Generator[RecordBatch, None, None]:
        begun: deque[tuple[Selection, Slot, PendingBatch, Found | None]] = deque()
        try:
            reader.open()
            for selection in batches:
                slot = ring.acquire()
                begun.append((selection, slot, *self._begin(selection, slot, reader)))
                if len(begun) > ahead:
                    yield self._finish(*begun.popleft())
            while begun:
                yield self._finish(*begun.popleft())
        finally:
            reader.close()

    def _begin(
        self, selection: Selection, slot: Slot, reader: SourceReader
    ) -> tuple[PendingBatch, Found | None]:
        """Begin to read the records of a batch that the cache does not have."""
        ids, found = selection.ids, None
        if self._cache is not None:
            found = self._cache.find(ids)
            ids = ids[found.missing]
        with naming_batch("record numbers", selection.ids):
            pending = reader.begin(ids, slot) if len(ids) else self._no_records
        return pending, found

    def _no_records(self) -> EncodedBatch:
        none, labels = np.zeros(0, np.int64), np.zeros((0, self.label_width), np.float32)
        return EncodedBatch(none.astype(np.uint64), none, labels, none, none.astype(np.uint64))

    def _finish(
        self, selection: Selection, slot: Slot, pending: PendingBatch, found: Found | None
    ) -> RecordBatch:
        """The batch, once its records were read."""
        with naming_batch("record numbers", selection.ids):
            batch = pending()
        if found is not None:
            batch = found.completed(batch)
        keys = self.source.keys
        samples = Samples(
            selection.ids,
            _narrow(batch.ids) if keys is None else keys[selection.ids],
            batch.labels,
            selection.pad,
            batch.faults,
            None if self._ragged is None else batch.label_counts,
        )
        if self._relabel is None:
            self._check_counts(samples, batch)
        else:
            self._replace_labels(samples, batch.ids, self._relabel)
        if self._ragged is not None and samples.widths is not None:
            self._check_ragged(samples, self._ragged, samples.widths)
        batch.nbytes[list(samples.faults)] = 0
        return RecordBatch(samples, batch.address, batch.nbytes, slot, found)

    def _check_counts(self, samples: Samples, batch: EncodedBatch) -> None:
        """Note a fault for every record that has another number of labels."""
        counts, width = batch.label_counts, self.label_width
        wrong = counts != width if self._ragged is None else counts > width
        for place in np.flatnonzero(wrong).tolist():
            if place in samples.faults:
                continue
            found = f"it has {counts[place]} labels"
            expected = f", more than label_width or label_pad_width={width}"
            if self._ragged is None:
                hint = self.source.hint(int(samples.ids[place]))
                expected = f", not label_width={width}{hint}"
            samples.faults[place] = LabelError(f"{self._where(samples, place)}: {found}{expected}")

    def _replace_labels(
        self, samples: Samples, ids: npt.NDArray[np.uint64], relabel: Relabel
    ) -> None:
        labels, widths = relabel(ids.astype(np.int64))
        beyond = ids > _LARGEST_ID  # no line of a list can have such an id
        labels[beyond], widths[beyond] = 0, 0
        if samples.widths is not None:
            samples.widths[:] = widths
        samples.labels[:, : labels.shape[1]] = labels
        for place in np.flatnonzero(widths == 0).tolist():
            where = self.source.where(int(samples.ids[place]))
            reason = f"path_imglist has no line for its id {ids[place]}"
            samples.faults.setdefault(place, LabelError(f"{where}: {reason}"))

    def _check_ragged(
        self, samples: Samples, check: LabelCheck, widths: npt.NDArray[np.int64]
    ) -> None:
        """Note what is wrong with labels of any number; samples at fault have none."""
        widths[list(samples.faults)] = 0
        for place, reason in check(samples.labels, widths).items():
            where = self._where(samples, place)
            samples.faults.setdefault(place, LabelError(f"{where}: {reason}"))
        widths[list(samples.faults)] = 0

    def _where(self, samples: Samples, place: int) -> str:
        return f"{self.source.where(int(samples.ids[place]))}, key {samples.keys[place]}"


def _narrow(ids: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64 | np.uint64]:
    """(N,) ids as int64, unless one of them needs uint64."""
    return ids if (ids > _LARGEST_ID).any() else ids.astype(np.int64)
