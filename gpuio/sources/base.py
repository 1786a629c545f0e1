"""`RecordSource`: where encoded images and their labels come from.

RecordIO files (`gpuio.sources.recordio`) and image files in folders (`gpuio.sources.folder`) are
two of them. Another one is a subclass of `RecordSource` in one file, and one call of
`gpuio.register_source`; `examples/zip_source.py` is an example.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from gpuio.errors import GpuioError
from gpuio.sources.reading import EncodedImage as EncodedImage
from gpuio.sources.reading import SourceReader, ThreadedReader

Int64s = npt.NDArray[np.int64]

_SAMPLE: Final = 1000  # records whose sizes are looked at
_DEVIATIONS: Final = 5  # of the size of a batch: one in millions is larger


@dataclass(slots=True)
class Losses:
    """Records that were left out of a source because they are damaged.

    Attributes:
        count: How many, as far as they can be counted.
        faults: The errors of the first of them.
    """

    count: int = 0
    faults: list[GpuioError] = field(default_factory=list)


class RecordSource(ABC):
    """Encoded images with their labels, numbered from 0.

    A subclass has at least `__len__`, `read`, `where` and `fingerprint`; then records are read one
    by one in worker threads. A source that can read a batch in fewer calls overrides `reader`.
    Any number of threads may call any method at once, and so may forked processes, such as workers
    of a DataLoader: these share the position of a file that was open before.

    Attributes:
        keys: (count,) int64, the key of each record; None if the ids of the images are the keys.
    """

    keys: Int64s | None = None

    @abstractmethod
    def __len__(self) -> int:
        """The number of records."""

    @abstractmethod
    def read(self, record: int) -> EncodedImage:
        """One record, read by itself.

        Raises:
            OSError: It cannot be read.
            ValueError: It is damaged; a `FormatError` says where.
        """

    @abstractmethod
    def where(self, record: int) -> str:
        """Where a record is, for messages: its file, and its place in the file."""

    @abstractmethod
    def fingerprint(self) -> int:
        """A 48-bit number by which saved states recognize these records.

        It should not depend on the folder that the files lie in.
        """

    def versions(self, ids: Int64s) -> npt.NDArray[np.uint64] | None:
        """(N,) a number for each of (N,) records that changes with its bytes; None for unknown.

        It decides whether what a cache has of a record is still that of the record, and is asked in
        every epoch, before the record is read. So it should be cheap: the size, time and inode of a
        file, or its ETag.
        """
        return None

    def __str__(self) -> str:
        """What messages call the source."""
        return type(self).__name__

    @property
    def losses(self) -> Losses:
        """Records that were left out when the source was opened."""
        return Losses()

    @property
    def is_remote(self) -> bool:
        """Whether reads wait for a network, so that it pays to begin several batches ahead."""
        return False

    def hint(self, record: int) -> str:
        """Advice about a record without an image or with unexpected labels; "" for none.

        It is appended to a message: "; read them by ImageDetRecordIter".
        """
        return ""

    def nbytes(self, ids: Int64s) -> Int64s:
        """(N,) int64, about how many bytes each of (N,) records takes; 0 if that is unknown."""
        return np.zeros(len(ids), np.int64)

    def batch_nbytes(self, count: int) -> int:
        """Bytes that are enough for nearly every batch of `count` records; 0 for unknown."""
        some = np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(np.int64)
        return enough_for(self.nbytes(some), count)

    def label_counts(self) -> Int64s:
        """(count,) int64, how many labels each record has; 0 for one label, or a damaged record."""
        return np.array([len(self.read(record).labels) for record in range(len(self))], np.int64)

    def reader(self, label_width: int, *, ragged: bool = False) -> SourceReader:
        """A reader of the batches of one epoch.

        Args:
            label_width: W, labels of every record.
            ragged: Whether records may have fewer labels.
        """
        return ThreadedReader(self, label_width, ragged=ragged)


def enough_for(sizes: Int64s, count: int) -> int:
    """Bytes that are enough for nearly every choice of `count` records.

    Args:
        sizes: (K,) bytes of some of the records.
        count: Records in a batch.
    """
    return int(count * sizes.mean() + _DEVIATIONS * sizes.std() * count**0.5)
