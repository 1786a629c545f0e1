"""What iterators have in common that go through their data one epoch after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gpuio.batch import DataBatch, DataDesc, DataIter
from gpuio.errors import PipelineClosedError
from gpuio.prefetch import Prefetch
from gpuio.reader.order import Order, Selection


class EpochIter(DataIter):
    """Base of iterators over one epoch after another.

    An iterator is at the start of an epoch, inside one, or at its end. `next` at the end raises
    StopIteration; `reset`, and a new `for` loop, begin the next epoch there. A derived class says
    in `_take` and `_begin` where batches come from.

    Attributes:
        batch_size: Samples in a batch.
        current_batch: The last batch handed out; None before the first and after the last.
    """

    def __init__(self, batch_size: int = 0) -> None:
        super().__init__(batch_size)
        self.current_batch: DataBatch | None = None
        self._ended = self._closed = False

    def _take(self) -> DataBatch:
        """The next batch of this epoch; StopIteration after the last."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Go to the start of an epoch."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        """True, even without a batch: an iterator is there."""
        return True

    def __iter__(self) -> Iterator[DataBatch]:
        """This iterator, at the start of the next epoch if one has just ended."""
        if self._ended:
            self.reset()
        return self

    def reset(self) -> None:
        """Begin the next epoch."""
        self._check_open()
        self._begin()
        self.current_batch = None
        self._ended = False

    def iter_next(self) -> bool:
        """Move on to the next batch; False when the epoch is over."""
        self._check_open()
        self.current_batch = None
        if self._ended:
            return False
        try:
            self.current_batch = self._take()
        except StopIteration:
            self._ended = True
            return False
        return True

    def next(self) -> DataBatch:
        """The next batch.

        Raises:
            StopIteration: The epoch is over; `reset` begins another.
            PipelineClosedError: The iterator was closed.
        """
        if self.iter_next():
            return self._current
        raise StopIteration

    def getdata(self) -> list[Any]:
        return list(self._current.data or ())

    def getlabel(self) -> list[Any]:
        return list(self._current.label or ())

    def getindex(self) -> Any:
        return self._current.index

    def getpad(self) -> int | None:
        return self._current.pad

    @property
    def _current(self) -> DataBatch:
        if self.current_batch is None:
            raise RuntimeError("there is no current batch: call next() or iter_next() first")
        return self.current_batch

    def close(self) -> None:
        """End whatever runs for this iterator; batches handed out stay as they are."""
        self._closed = True
        self.current_batch = None

    def _check_open(self) -> None:
        if self._closed:
            raise PipelineClosedError("this iterator was closed")


class FileIter(EpochIter):
    """Base of iterators that read batches from files, in a thread of their own.

    Attributes:
        provide_data: Description of `batch.data`.
        provide_label: Description of `batch.label`.
    """

    provide_data: list[DataDesc]
    provide_label: list[DataDesc]

    def __init__(self, order: Order, load: Callable[[Selection], DataBatch], depth: int) -> None:
        """Args give the samples of each batch, their values, and how many batches may wait."""
        super().__init__(order.batch_size)
        self._order, self._load, self._depth = order, load, depth
        self._ahead: Prefetch[DataBatch] | None = None

    def __len__(self) -> int:
        """Batches in an epoch, the same for every part."""
        return self._order.length()

    def _take(self) -> DataBatch:
        if self._ahead is None:
            batches = map(self._load, self._order.batches(epoch=0))
            self._ahead = Prefetch(batches, self._depth, name="gpuio-file")
        return next(self._ahead)

    def _begin(self) -> None:
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def close(self) -> None:
        super().close()
        self._begin()
