"""`ImageCache`: the stores of one pipeline, and what planner and executor do with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from gpuio.devices.base import Device
from gpuio.pipeline.cache.entries import Found, entry_dtype
from gpuio.pipeline.cache.staged import Staged
from gpuio.pipeline.cache.store import Store, spaced
from gpuio.sources.base import RecordSource
from gpuio.transforms.geometry import MOST_PIXELS, ResampleChain, Sizes, Step

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True, eq=False)
class CachedBatch:
    """Where the images of a planned batch lie in a cache, or are put.

    Attributes:
        address: (N,) uint64, where the pixels of each image begin; 0 where the cache has none.
        fill: (N,) bool, images that are put there first.
        size: (N, 2) heights and widths of the pixels there.
        step: The step whose results they are; None for decoded images.
        on_host: Whether those of images that are in the cache lie where only the host reads them.
        claims: Stores that have given memory, with the places of the images that are put there,
            and their records.
        staged: Device memory that `address` of images to be put there leads to; None where kernels
            write to the cache itself.
    """

    address: UInt64s
    fill: npt.NDArray[np.bool_]
    size: Sizes
    step: Step | None
    on_host: bool
    claims: list[tuple[Store, Int64s, Int64s]]
    staged: Staged | None = None


class ImageCache:
    """The cache of one pipeline.

    One thread reads and plans (`find`, `plan`), and another one decodes (`settle`). `begin` and
    `close` are called when neither is at work.

    Args:
        source: The records.
        label_width: Labels of a record, as they are read.
        channels: Channels of the pixels.
        resized: Whether pixels are kept after the first step of the plan, not right after decoding.
        staging: The device that makes the pixels, if its kernels cannot use the memory of stores.
        open_stores: Opens the stores, those that are filled first before others. It is called when
            the first epoch begins, so that a process forked before has stores of its own.

    Attributes:
        hits: Images that were found in the cache.
        misses: Images that were not.
    """

    def __init__(
        self,
        source: RecordSource,
        label_width: int,
        channels: int,
        *,
        resized: bool,
        staging: Device | None,
        open_stores: Callable[[np.dtype[np.void]], Sequence[Store]],
    ) -> None:
        self.hits = self.misses = 0
        self._source, self._label_width, self._channels = source, label_width, channels
        self._resized, self._staging, self._open = resized, staging, open_stores
        self._entry = entry_dtype(label_width)
        self._stores: Sequence[Store] | None = None
        self._planned: list[CachedBatch] = []  # whose claims are still to be settled

    def begin(self) -> None:
        """Get ready for an epoch: what batches of the last one have claimed, others may have."""
        if self._stores is None:
            self._stores = self._open(self._entry)
        for batch in self._planned:
            _abandon(batch.claims)
        if self._staging is not None and self._planned:
            self._staging.record().synchronize()  # kernels may still write to staged memory
        self._planned.clear()

    def find(self, records: Int64s) -> Found:
        """What is known of (N,) records, by number."""
        versions = self._source.versions(records)
        assert versions is not None
        found = Found.nothing(versions, self._label_width)
        for store in self._stores or ():
            store.find(records, found)
        hits = int(np.count_nonzero(found.address))
        self.hits, self.misses = self.hits + hits, self.misses + len(records) - hits
        return found

    def plan(
        self, records: Int64s, found: Found, faults: Sequence[int], geometry: ResampleChain
    ) -> CachedBatch:
        """Decide which images of a batch are made of cached pixels, and claim memory for others.

        Args:
            records: (N,) record numbers.
            found: What was found of them, and what was read.
            faults: Places of images that are not made.
            geometry: What happens to the images, finished.
        """
        step = geometry.steps[0] if self._resized else None
        size = geometry.original if step is None else step.size
        address, fill = found.address.copy(), found.address == 0
        address[[*faults]], fill[[*faults]] = 0, False
        on_host, claims = self._staging is not None, list[tuple[Store, Int64s, Int64s]]()
        if not fill.any():
            return self._noted(CachedBatch(address, fill, size, step, on_host, claims))
        fill &= size.prod(axis=1) <= MOST_PIXELS
        places = np.flatnonzero(fill)
        _, first = np.unique(records[places], return_index=True)  # a record may be there twice
        places = places[np.sort(first)]
        rows = self._entries(places, found, geometry.original, size)
        for store in self._stores or ():
            if not len(places):
                break
            where = store.claim(records[places], rows)
            there = where != 0
            address[places[there]] = where[there]
            claims.append((store, places[there], records[places[there]]))
            places, rows = places[~there], rows[~there]
        fill &= address != 0
        batch = CachedBatch(address, fill, size, step, on_host, claims)
        if self._staging is not None:
            batch = self._staged(batch, self._staging)
        return self._noted(batch)

    def _staged(self, batch: CachedBatch, device: Device) -> CachedBatch:
        """The batch with memory on a device for its pixels; nothing is kept where there is none."""
        nbytes = np.where(batch.fill, batch.size.prod(axis=1) * self._channels, 0)
        address = batch.address.copy()
        try:
            staged = Staged.of(device, nbytes, batch.address)
        except MemoryError:
            _abandon(batch.claims)
            address[batch.fill] = 0
            return replace(batch, address=address, fill=np.zeros_like(batch.fill), claims=[])
        start = np.uint64(device.address(staged.memory))
        address[batch.fill] = (start + staged.starts.astype(np.uint64))[batch.fill]
        return replace(batch, address=address, staged=staged)

    def _noted(self, batch: CachedBatch) -> CachedBatch:
        self._planned.append(batch)
        return batch

    def settle(self, batch: CachedBatch, faults: Sequence[int]) -> None:
        """Keep the images that a batch has put into the cache, but for those at places `faults`."""
        self._planned.remove(batch)
        for store, places, records in batch.claims:
            failed = np.isin(places, [*faults])
            if batch.staged is not None:
                batch.staged.keep(places[~failed])
            store.settle(records[~failed])
            if failed.any():
                store.abandon(records[failed])

    def close(self) -> None:
        """Leave the stores; the last one that does removes the pixels."""
        if self._stores is None:
            return
        try:
            self.begin()
        finally:  # also when the device has failed
            for store in self._stores:
                store.close()

    def stats(self) -> dict[str, int]:
        """`hits` and `misses` so far; `entries` that all who share the cache have, and `nbytes`."""
        headers = [store.header for store in self._stores or ()]
        return {
            "hits": self.hits,
            "misses": self.misses,
            "entries": sum(int(header["entries"][0]) for header in headers),
            "nbytes": sum(int(header["nbytes"][0]) for header in headers),
        }

    def _entries(
        self, places: Int64s, found: Found, original: Sizes, size: Sizes
    ) -> npt.NDArray[np.void]:
        """(M,) entries for the images at (M,) places."""
        rows = np.zeros(len(places), self._entry)
        rows["nbytes"] = spaced(size[places].prod(axis=1) * self._channels)
        rows["height"], rows["width"] = original[places].T
        rows["version"], rows["id"] = found.versions[places], found.ids[places]
        rows["labels"], rows["label_count"] = found.labels[places], found.label_counts[places]
        return rows


def _abandon(claims: Sequence[tuple[Store, Int64s, Int64s]]) -> None:
    """Let others have memory that was claimed."""
    for store, _, records in claims:
        store.abandon(records)
