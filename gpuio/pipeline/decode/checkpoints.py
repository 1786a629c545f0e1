"""Where the rows of JPEGs begin, kept for the next window of the same image.

A window of an image is decoded from there, and nothing above, below or to the right of it is read.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.kernels.jpeg.scan import CHECKPOINT
from gpuio.pipeline.decode.checkpoint_file import StoredCheckpoints

LIMIT: Final = 256 << 20
"""Bytes of checkpoints that are kept: those of some 500,000 photographs of ImageNet."""
_CHUNK: Final = 1 << 20  # bytes that are allocated at a time


class Checkpoints:
    """Memory for the checkpoints of the images of a data set.

    Checkpoints of an image are written once, when the first window of it is decoded; or they are
    those stored beside its .rec.

    Args:
        count: Number of records.
        limit: Most bytes to allocate; images for which there is no room have no checkpoints.

    Attributes:
        nbytes: Bytes allocated so far.
        hits: Images that were decoded from their checkpoints.
    """

    def __init__(self, count: int, limit: int = LIMIT) -> None:
        self.nbytes = self.hits = 0
        self._limit = limit
        self._address = np.zeros(count, np.int64)
        self._count = np.zeros(count, np.int64)
        self._known = np.zeros(count, bool)
        self._chunks: list[npt.NDArray[np.void]] = []
        self._free = 0  # rows at the end of the last chunk
        self._stored: list[StoredCheckpoints] = []

    def add(self, stored: StoredCheckpoints, first: int, offsets: npt.NDArray[np.int64]) -> None:
        """Use what is stored beside a file of records.

        Args:
            stored: The checkpoints.
            first: Number of the file's first record.
            offsets: (M,) where its records begin.
        """
        if not len(stored.offsets):
            return
        places = np.searchsorted(stored.offsets, offsets)
        places = np.minimum(places, len(stored.offsets) - 1)
        found = np.flatnonzero(stored.offsets[places] == offsets)
        self._address[first + found] = stored.addresses[places[found]]
        self._count[first + found] = stored.counts[places[found]]
        self._known[first + found] = True
        self._stored.append(stored)

    def addresses(
        self, ids: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Where the checkpoints of images are, or are to be written.

        Args:
            ids: (N,) record numbers.
            rows: (N,) checkpoints of each image; 0 for images that are to have none.

        Returns:
            (N,) addresses, 0 where an image has no checkpoints, another number of them is stored,
            or another kernel may be writing them, and (N,) whether they are known.
        """
        known = self._known[ids] & (rows > 0) & (rows == self._count[ids])
        new = np.flatnonzero((self._address[ids] == 0) & (rows > 0))
        new = new[np.unique(ids[new], return_index=True)[1]]  # a batch may hold an image twice
        address = np.where(known, self._address[ids], 0)
        for place, count in zip(new.tolist(), rows[new].tolist(), strict=True):
            found = self._allocate(count)
            if found == 0:
                break
            address[place] = self._address[ids[place]] = found
            self._count[ids[place]] = count
        self.hits += int(known.sum())
        return address, known

    def confirm(self, ids: npt.NDArray[np.int64]) -> None:
        """Remember that the checkpoints of these records are written."""
        self._known[ids] = True

    def _allocate(self, count: int) -> int:
        """Address of `count` checkpoints, or 0 where there is no room."""
        if count > self._free:
            rows = max(count, _CHUNK // CHECKPOINT.itemsize)
            if self.nbytes + rows * CHECKPOINT.itemsize > self._limit:
                return 0
            self._chunks.append(np.zeros(rows, CHECKPOINT))
            self.nbytes += self._chunks[-1].nbytes
            self._free = rows
        chunk = self._chunks[-1]
        address = chunk.ctypes.data + (len(chunk) - self._free) * CHECKPOINT.itemsize
        self._free -= count
        return address
