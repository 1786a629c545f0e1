"""What a cache knows of each record, and what is found of the records of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.sources.reading import EncodedBatch

Int64s = npt.NDArray[np.int64]
UInt64s = npt.NDArray[np.uint64]

HEADER: Final = np.dtype([("used", np.int64), ("entries", np.int64), ("nbytes", np.int64)])
"""Of a store: bytes that are taken; images that are there, and the bytes of their pixels."""


class State(IntEnum):
    """How far an entry has come."""

    NONE = 0
    """There is no memory for the image."""
    RESERVED = 1
    """There is memory, and nobody fills it: the image could not be decoded, or nobody wanted it."""
    CLAIMED = 2
    """A batch that is being made fills the memory."""
    READY = 3
    """The pixels are there for good."""


def entry_dtype(label_width: int) -> np.dtype[np.void]:
    """The type of an entry, for records of `label_width` labels."""
    return np.dtype(
        [
            ("state", np.int64),
            ("version", np.uint64),  # of the record: see `RecordSource.versions`
            ("offset", np.uint64),  # of the pixels, from the base of the store
            ("nbytes", np.int64),  # of memory
            ("height", np.int32),  # of the image in its file
            ("width", np.int32),
            ("id", np.uint64),  # as `EncodedBatch` has it
            ("label_count", np.int64),
            ("labels", np.float32, (label_width,)),
        ],
        align=True,
    )


@dataclass(slots=True)
class Found:
    """The records of a batch, as far as a cache has them; what was read is put in later.

    Attributes:
        versions: (N,) the records as they are now.
        address: (N,) where the pixels begin; 0 where the image is not in the cache.
        size: (N, 2) int32, height and width of the image in its file; 0 where it is not.
        labels: (N, W) float32, as stored in the records.
        label_counts: (N,) how many labels each record has.
        ids: (N,) the ids of the images.
    """

    versions: UInt64s
    address: UInt64s
    size: npt.NDArray[np.int32]
    labels: npt.NDArray[np.float32]
    label_counts: Int64s
    ids: UInt64s

    @classmethod
    def nothing(cls, versions: UInt64s, label_width: int) -> Found:
        """None of the records."""
        count = len(versions)
        return cls(
            versions,
            np.zeros(count, np.uint64),
            np.zeros((count, 2), np.int32),
            np.zeros((count, label_width), np.float32),
            np.zeros(count, np.int64),
            np.zeros(count, np.uint64),
        )

    @property
    def hit(self) -> npt.NDArray[np.bool_]:
        """(N,) images that are in the cache."""
        return self.address != 0

    @property
    def missing(self) -> Int64s:
        """(M,) places of the records that must be read."""
        return np.flatnonzero(self.address == 0)

    def put(self, places: Int64s, rows: npt.NDArray[np.void], base: int) -> None:
        """Put in (M,) entries of a store whose pixels begin at `base`."""
        self.address[places] = np.uint64(base) + rows["offset"]
        self.size[places, 0], self.size[places, 1] = rows["height"], rows["width"]
        self.labels[places], self.label_counts[places] = rows["labels"], rows["label_count"]
        self.ids[places] = rows["id"]

    def completed(self, read: EncodedBatch) -> EncodedBatch:
        """All records of the batch, of which those that were missing were read."""
        places, count = self.missing, len(self.address)
        self.labels[places], self.label_counts[places] = read.labels, read.label_counts
        self.ids[places] = read.ids
        address, nbytes = np.zeros(count, np.uint64), np.zeros(count, np.int64)
        address[places], nbytes[places] = read.address, read.nbytes
        faults = {int(places[place]): fault for place, fault in read.faults.items()}
        labels, counts = self.labels.copy(), self.label_counts.copy()  # others may be put there
        return EncodedBatch(address, nbytes, labels, counts, self.ids.copy(), faults)
