"""Images that threads decode for an `ImageIter`, and take through a user's callables."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy.typing as npt

from gpuio.core.parameters import integer
from gpuio.core.threads import WorkerPool, available_cores
from gpuio.errors import DecodeError, FormatError, LabelError, PipelineClosedError
from gpuio.mxnet.image.functions import imdecode

Image = npt.NDArray[Any]

_PER_THREAD: Final = 4  # images that may wait to be put into a batch


class BrokenImageError(DecodeError, RuntimeError):
    """An image of a data set cannot be decoded; also the RuntimeError that MXNet raises."""


class EncodedSample(NamedTuple):
    """Labels and encoded image of a sample; and what tells messages its name, file and place."""

    label: Any
    encoded: bytes
    where: Callable[[], str]

    def decode(self, augs: Sequence[Callable[[Any], Any]] = ()) -> Image:
        """The image, (H, W, 3) uint8 RGB, after all of `augs`.

        Raises:
            BrokenImageError: It cannot be decoded.
        """
        try:
            image: Image = imdecode(self.encoded)
        except (DecodeError, ValueError) as error:
            raise BrokenImageError(f"Broken image {self.where()}: {error}") from error
        with self.named():
            for aug in augs:
                image = aug(image)
        return image

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add the name of the sample to errors about it: to the message, or in a note."""
        try:
            yield
        except StopIteration:  # which would end a loop over batches, and so would it as a cause
            raise RuntimeError(f"{self.where()}: an augmenter raised StopIteration") from None
        except Exception as error:
            kind = _NAMED.get(type(error))
            if kind is not None:
                raise kind(f"{self.where()}: {error}") from error
            error.add_note(f"raised for a sample: {self.where()}")
            raise


class DecodeQueue:
    """Samples in order, whose images are decoded by threads.

    The threads are started when they are first needed, and anew in a forked child.

    Args:
        threads: How many; all cores that this process may use when None.
    """

    def __init__(self, threads: int | None) -> None:
        if threads is not None:
            threads = integer("preprocess_threads", threads, least=1)
        self.threads = threads or available_cores()
        self._queued: deque[tuple[EncodedSample, Future[Image]]] = deque()
        self._unsent: deque[EncodedSample] = deque()  # read, and with no thread yet
        self._pool: WorkerPool | None = None
        self._pid = 0
        self._closed = False

    def __len__(self) -> int:
        """Samples that were read, and not yet taken."""
        return len(self._queued) + len(self._unsent)

    def read_ahead(
        self,
        read: Callable[[], EncodedSample],
        decode: Callable[[EncodedSample], Future[Image]],
        wanted: int,
    ) -> bool:
        """Read and begin to decode some of the next `wanted` samples; False once there are no more.

        Samples that are queued when a batch fails are the first of the next batch.
        """
        if self._pool is not None and self._pid != os.getpid():  # its threads are the parent's
            self._pool = None
            self._unsent.extendleft(sample for sample, _ in reversed(self._queued))
            self._queued.clear()
        while len(self._queued) < min(wanted, self.threads * _PER_THREAD):
            if not self._unsent:
                try:
                    self._unsent.append(read())
                except StopIteration:
                    return False
            self._queued.append((self._unsent[0], decode(self._unsent[0])))
            self._unsent.popleft()
        return True

    def take(self) -> tuple[EncodedSample, Image] | None:
        """The next sample and its image, once that is decoded; None if no sample is queued.

        Raises:
            BrokenImageError: The image cannot be decoded.
            PipelineClosedError: `interrupt` was called.
        """
        if not self._queued:
            return None
        sample, image = self._queued.popleft()
        try:
            return sample, image.result()
        except CancelledError as error:
            raise PipelineClosedError("this iterator was closed") from error

    def submit(self, sample: EncodedSample, augs: Sequence[Callable[[Any], Any]]) -> Future[Image]:
        """Have a thread decode a sample and take it through `augs`.

        Raises:
            BackendError: No thread can be started.
            PipelineClosedError: `interrupt` was called.
        """
        if self._pool is None:
            self._pool, self._pid = WorkerPool(self.threads, "gpuio-image"), os.getpid()
        try:
            return self._pool.submit(sample.decode, augs)
        except RuntimeError as error:
            if self._closed:
                raise PipelineClosedError("this iterator was closed") from error
            raise

    def clear(self) -> None:
        """Drop all samples."""
        self._queued.clear()
        self._unsent.clear()

    def interrupt(self) -> None:
        """Cancel what no thread has begun to decode; any thread may call this before `close`."""
        self._closed = True
        self._shutdown(wait=False)

    def close(self) -> None:
        """Drop all samples and end the threads."""
        self.clear()
        self._shutdown(wait=True)
        self._pool = None

    def _shutdown(self, *, wait: bool) -> None:
        pool = self._pool
        if pool is not None and self._pid == os.getpid():
            pool.shutdown(wait, cancel_futures=True)


_NAMED: Final[dict[type[Exception], type[Exception]]] = {
    LabelError: LabelError,
    FormatError: FormatError,
    ValueError: FormatError,
}
"""By type of error, the type that is raised instead, with the name of the sample in front."""
