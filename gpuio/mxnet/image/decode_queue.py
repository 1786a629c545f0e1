"""Images that threads decode for an `ImageIter`, and take through augmenters of others."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gpuio.core.parameters import integer
from gpuio.core.threads import WorkerPool, available_cores
from gpuio.errors import DecodeError, FormatError, LabelError, PipelineClosedError
from gpuio.mxnet.image.functions import imdecode

if TYPE_CHECKING:
    import numpy.typing as npt

    Image = npt.NDArray[Any]

_PER_THREAD: Final = 4  # images that may wait to be put into a batch


class BrokenImageError(DecodeError, RuntimeError):
    """An image of a data set cannot be decoded; also the RuntimeError that MXNet raises."""


class EncodedSample(NamedTuple):
    """A sample as it was read.

    Attributes:
        label: Its labels.
        encoded: Bytes of its image.
        where: Its name, file and place, for messages.
    """

    label: Any
    encoded: bytes
    where: str


class QueuedImage(NamedTuple):
    """A sample whose image is being decoded.

    Attributes:
        label: Its labels.
        where: Its name, file and place, for messages.
        image: (H, W, 3) uint8 RGB, augmented where augmenters run in threads.
    """

    label: Any
    where: str
    image: Future[Image]


class DecodeQueue:
    """Images on their way through threads, in order.

    Threads are started when they are first needed, and anew in a forked child.

    Args:
        threads: How many; all cores that this process may use when None.

    Attributes:
        threads: How many.
    """

    def __init__(self, threads: int | None) -> None:
        if threads is not None:
            threads = integer("preprocess_threads", threads, least=1)
        self.threads = threads or available_cores()
        self._images: deque[QueuedImage] = deque()
        self._unqueued: EncodedSample | None = None  # read, but no thread could take it
        self._pool: WorkerPool | None = None
        self._pid = 0
        self._closed = False

    def __len__(self) -> int:
        """Samples that were read, and not yet taken."""
        return len(self._images) + (self._unqueued is not None)

    def read_ahead(
        self,
        read: Callable[[], EncodedSample],
        decode: Callable[[EncodedSample], Future[Image]],
        wanted: int,
    ) -> bool:
        """Have some of the next `wanted` samples decoded; False once the sequence is over.

        Those that a failure leaves behind come first in the next batch.

        Args:
            read: Gives the next sample, or raises StopIteration.
            decode: Begins to decode a sample, by `submit` or in another way.
            wanted: Samples.
        """
        while len(self._images) < min(wanted, self.threads * _PER_THREAD):
            try:
                sample = self._unqueued = self._unqueued or read()
            except StopIteration:
                return False
            self._images.append(QueuedImage(sample.label, sample.where, decode(sample)))
            self._unqueued = None
        return True

    def take(self) -> QueuedImage | None:
        """The next image, which may still be on its way."""
        return self._images.popleft() if self._images else None

    def submit(self, sample: EncodedSample, augs: Sequence[Callable[[Any], Any]]) -> Future[Image]:
        """Have a thread decode a sample and take it through `augs`.

        Raises:
            BackendError: No thread can be started.
            PipelineClosedError: `interrupt` was called.
        """
        if self._pool is None or self._pid != os.getpid():
            self._pool = WorkerPool(self.threads, "gpuio-image")
            self._pid = os.getpid()
        try:
            return self._pool.submit(decode_sample, sample.encoded, sample.where, augs)
        except RuntimeError as error:
            if self._closed:
                raise PipelineClosedError("this iterator was closed") from error
            raise

    def clear(self) -> None:
        """Drop all samples."""
        self._images.clear()
        self._unqueued = None

    def interrupt(self) -> None:
        """Drop what no thread has begun with; `close` is to follow. For any thread."""
        self._closed = True
        pool = self._pool
        if pool is not None and self._pid == os.getpid():
            pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Drop all samples and end the threads."""
        self.clear()
        if self._pool is not None and self._pid == os.getpid():
            self._pool.shutdown(cancel_futures=True)
        self._pool = None


def decode_sample(encoded: bytes, where: str, augs: Sequence[Callable[[Any], Any]] = ()) -> Image:
    """An encoded image decoded, and taken through `augs`.

    Raises:
        BrokenImageError: It cannot be decoded.
    """
    try:
        image: Image = imdecode(encoded)
    except (DecodeError, ValueError) as error:
        raise BrokenImageError(f"Broken image {where}: {error}") from error
    with naming_sample(where):
        for aug in augs:
            image = aug(image)
    return image


_NAMED: Final[dict[type[Exception], type[Exception]]] = {
    LabelError: LabelError,
    FormatError: FormatError,
    ValueError: FormatError,
}
"""Errors whose message gets the name of the sample in front, and what they become."""


@contextmanager
def naming_sample(where: str) -> Iterator[None]:
    """Add the name of a sample to errors about it: to the message, or in a note."""
    try:
        yield
    except Exception as error:
        kind = _NAMED.get(type(error))
        if kind is not None:
            raise kind(f"{where}: {error}") from error
        error.add_note(f"raised for {where}")
        raise
