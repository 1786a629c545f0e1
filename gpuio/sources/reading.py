"""How the batches of a source are read: in two steps, so that several may be on their way."""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.threads import WorkerPool
from gpuio.errors import FormatError, GpuioError, PipelineClosedError, ReadError

if TYPE_CHECKING:
    from gpuio.devices.ring import Slot
    from gpuio.sources.base import RecordSource

Int64s = npt.NDArray[np.int64]

_MOST_ID: Final = 2**64 - 1
_THREADS: Final = 8  # records read at once: more than one takes the time of a disk or a network


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """One record.

    Attributes:
        image: The encoded image, such as the bytes of a JPEG file.
        labels: (L,) float32.
        id: The id of the image, 0 to 2**64 - 1, by which lists give other labels.

    Raises:
        ValueError: One of them is of another type or shape.
    """

    image: bytes
    labels: npt.NDArray[np.float32]
    id: int

    def __post_init__(self) -> None:
        if type(self.image) is not bytes:
            object.__setattr__(self, "image", _as_bytes(self.image))
        labels = np.asarray(self.labels)
        if labels.ndim != 1 or labels.dtype.kind not in "fiub":
            found = f"{labels.dtype} of shape {labels.shape}"
            raise ValueError(f"labels must be float32 of shape (L,), got {found}")
        object.__setattr__(self, "labels", labels.astype(np.float32, copy=False))
        object.__setattr__(self, "id", p.integer("id", self.id, least=0, most=_MOST_ID))


def _as_bytes(image: object) -> bytes:
    try:
        return memoryview(image).tobytes()  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"image must be bytes, got {type(image).__name__}") from None


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """The records of one batch, whose images lie in the memory of a slot.

    Attributes:
        address: (N,) uint64, where each encoded image starts.
        nbytes: (N,) int64, bytes of each encoded image; any number where there is a fault.
        labels: (N, W) float32; 0 where a record does not have W labels or, where fewer are
            allowed, has more.
        label_counts: (N,) int64, how many labels each record has.
        ids: (N,) uint64, the ids of the images.
        faults: By place in the batch, why a record could not be read.
    """

    address: npt.NDArray[np.uint64]
    nbytes: Int64s
    labels: npt.NDArray[np.float32]
    label_counts: Int64s
    ids: npt.NDArray[np.uint64]
    faults: dict[int, GpuioError] = field(default_factory=dict)


PendingBatch = Callable[[], EncodedBatch]
"""Waits until a batch was read, and gives it. It raises a RemoteError if a store of files at URLs
fails, and a PipelineClosedError if the reader was interrupted, before or while it waits."""


class SourceReader(ABC):
    """Reads batches of one source during one epoch.

    One thread opens it, begins and finishes batches, and closes it; any thread may interrupt it.
    """

    @abstractmethod
    def open(self) -> None:
        """Open the files.

        Raises:
            OSError: A file is missing, or a store cannot be reached.
            FormatError: A file is not the one that the source was made of.
        """

    @abstractmethod
    def begin(self, ids: Int64s, slot: Slot) -> PendingBatch:
        """Begin to read records into the memory of a slot.

        Args:
            ids: (N,) numbers of records.
            slot: The memory, which may grow.
        """

    @abstractmethod
    def interrupt(self) -> None:
        """End the wait for reads under way, as far as that is possible; `close` is to follow.

        The garbage collector may call it in any thread, also within another call, so it must not
        wait for a lock that a call holds.
        """

    @abstractmethod
    def close(self) -> None:
        """Close the files; no memory of a slot is written to any more when this returns."""


class ThreadedReader(SourceReader):
    """Reads records one by one in worker threads, then copies them into the slot.

    Args:
        source: The records.
        label_width: W, labels of every record.
        ragged: Whether records may have fewer labels.
    """

    def __init__(self, source: RecordSource, label_width: int, *, ragged: bool) -> None:
        self._source, self._label_width, self._ragged = source, label_width, ragged
        self._pool = WorkerPool(_THREADS, "gpuio-records")
        self._interrupted = False

    def open(self) -> None:
        """Nothing: `read` opens what it needs."""

    def begin(self, ids: Int64s, slot: Slot) -> PendingBatch:
        if self._interrupted:
            raise _closed_error()
        try:
            asked = [self._pool.submit(self._try, record) for record in ids.tolist()]
        except RuntimeError as error:
            raise _closed_error() from error
        return lambda: self._finish(ids, slot, asked)

    def interrupt(self) -> None:
        self._interrupted = True  # shutting the pool down here would wait for its locks

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _try(self, record: int) -> EncodedImage | GpuioError:
        if self._interrupted:
            raise _closed_error()
        try:
            found: object = self._source.read(record)
        except GpuioError as error:
            return error
        except OSError as error:
            plain = OSError(error.errno, error.strerror) if error.errno else error
            where = self._source.where(record)
            fault: GpuioError = ReadError(f"{where}: {str(plain).removeprefix(f'{where}: ')}")
            fault.__cause__ = error
        except ValueError as error:
            fault = FormatError(f"{self._source.where(record)}: {error}")
            fault.__cause__ = error
        except Exception as error:
            error.add_note(f"raised while this was read: {self._source.where(record)}")
            raise
        else:
            if isinstance(found, EncodedImage):
                return found
            wrong = type(found).__name__
            raise TypeError(
                f"{self._source.where(record)}: read as {wrong}, and not as EncodedImage"
            )
        return fault

    def _finish(
        self, ids: Int64s, slot: Slot, asked: Sequence[Future[EncodedImage | GpuioError]]
    ) -> EncodedBatch:
        """Copy the records that were read into the memory of the slot."""
        found = [future.result() for future in asked]
        count, width = len(found), self._label_width
        images = [b"" if isinstance(each, GpuioError) else each.image for each in found]
        nbytes = np.array([len(image) for image in images], np.int64)
        memory, starved = reserve(nbytes, slot)
        starts = np.cumsum(nbytes) - nbytes
        address = starts.astype(np.uint64) + np.uint64(memory.ctypes.data)
        labels, counts = np.zeros((count, width), np.float32), np.zeros(count, np.int64)
        batch = EncodedBatch(address, nbytes, labels, counts, ids.astype(np.uint64))
        for place, each in enumerate(found):
            if isinstance(each, GpuioError):
                batch.faults[place] = each
                continue
            counts[place], batch.ids[place] = len(each.labels), each.id
            if len(each.labels) == width or (self._ragged and len(each.labels) < width):
                labels[place, : len(each.labels)] = each.labels
            start, stop = int(starts[place]), int(starts[place] + nbytes[place])
            memory[start:stop] = np.frombuffer(images[place], np.uint8, stop - start)
        for place in starved:
            no_memory = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
            where = self._source.where(int(ids[place]))
            batch.faults[place] = ReadError(f"{where}: {no_memory}")
        return batch


def reserve(nbytes: Int64s, slot: Slot) -> tuple[npt.NDArray[np.uint8], list[int]]:
    """Memory for records, or for all but the largest of them where there is not enough.

    Args:
        nbytes: (N,) bytes of each; set to 0 for a record that there is no memory for.
        slot: The slot whose memory is taken.

    Returns:
        The memory, and the places of the records that it is not for.

    Raises:
        MemoryError: There is none even for records of at most `LARGE` bytes.
    """
    from gpuio.devices.base import LARGE  # which imports Numba: a source alone does without

    starved: list[int] = []
    while True:
        try:
            return slot.reserve(int(nbytes.sum())), starved
        except MemoryError:
            largest = int(nbytes.argmax())
            if nbytes[largest] <= LARGE:
                raise
            nbytes[largest] = 0
            starved.append(largest)


def _closed_error() -> PipelineClosedError:
    return PipelineClosedError("no more reads: the pipeline was closed")
