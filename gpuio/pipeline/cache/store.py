"""A store: memory for the pixels of images, and an entry for each record."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.pipeline.cache.entries import Found, State

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

ALIGNMENT: Final = 64
"""Bytes: the pixels of an image begin at a multiple of this, and take a multiple of it."""


def spaced(nbytes: Int64s) -> Int64s:
    """(N,) bytes of memory that (N,) `nbytes` of pixels take."""
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


class Store(ABC):
    """The pixels of some of the records, each at one place for good.

    A thread finds records while another one settles them, and so do other processes where the store
    is shared: an entry that is READY does not change any more.

    Attributes:
        header: (1,) HEADER.
        index: (records,) entries, see `entry_dtype`.
        base: Address to which the offsets of entries are added.
    """

    header: npt.NDArray[np.void]
    index: npt.NDArray[np.void]
    base: int = 0

    @abstractmethod
    def locked(self) -> AbstractContextManager[None]:
        """Keep out all others that claim or settle."""

    @abstractmethod
    def allocate(self, nbytes: Int64s) -> UInt64s:
        """(M,) offsets of memory for the first of (N,) images, as many as there is memory for.

        Args:
            nbytes: (N,) bytes of each, multiples of ALIGNMENT.
        """

    @abstractmethod
    def close(self) -> None:
        """Give everything back; the counts in `header` stay."""

    def find(self, records: Int64s, found: Found) -> None:
        """Put what is here of (N,) `records` into `found`, where that has nothing yet."""
        ready = (self.index["state"][records] == State.READY.value) & (found.address == 0)
        places = np.flatnonzero(ready)
        # The rest of an entry is looked at after its state: it was written before.
        rows = self.index[records[places]]
        same = rows["version"] == found.versions[places]
        found.put(places[same], rows[same], self.base)

    def claim(self, records: Int64s, rows: npt.NDArray[np.void]) -> UInt64s:
        """(N,) addresses of memory for the pixels of different records; 0 where there is none.

        Args:
            records: (N,) record numbers.
            rows: (N,) what their entries are to say, all but `state` and `offset`.
        """
        address, entries = np.zeros(len(records), np.uint64), self.index
        with self.locked():
            state = entries["state"][records]
            kept = state == State.RESERVED.value
            kept[kept] = entries["nbytes"][records[kept]] >= rows["nbytes"][kept]
            rows["offset"] = entries["offset"][records]
            new = np.flatnonzero(state == State.NONE.value)
            offsets = self.allocate(rows["nbytes"][new])
            new = new[: len(offsets)]
            rows["offset"][new], rows["state"] = offsets, State.CLAIMED
            taken = np.concatenate([np.flatnonzero(kept), new])
            entries[records[taken]] = rows[taken]
            address[taken] = np.uint64(self.base) + rows["offset"][taken]
        return address

    def settle(self, records: Int64s) -> None:
        """Show the pixels of (N,) claimed records to everybody."""
        with self.locked():
            self.index["state"][records] = State.READY
            self.header["entries"] += len(records)
            self.header["nbytes"] += self.index["nbytes"][records].sum()

    def abandon(self, records: Int64s) -> None:
        """Let others fill the memory of claimed records."""
        with self.locked():
            self.index["state"][records] = State.RESERVED
