"""What iterators have in common that go through their data one epoch after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from gpuio.core.guard import Guard
from gpuio.core.prefetch import Prefetch
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc, DataIter
from gpuio.samplers import Order, Selection


class EpochIter(DataIter):
    """Base of iterators over one epoch after another.

    An iterator is at the start of an epoch, inside one, or at its end. `next` at the end raises
    StopIteration. A new `for` loop goes on with what is left of the epoch, and begins the next one
    where nothing is left; `reset` begins the next one anywhere. Any thread may call any method:
    threads that call `next` share the batches out, and `close` also ends the wait of another one.
    A derived class says in `_take`, `_begin` and `_is_over` where batches come from.

    Attributes:
        batch_size: Samples in a batch.
        current_batch: The last batch handed out; None before the first and after the last.
    """

    def __init__(self, batch_size: int = 0) -> None:
        super().__init__(batch_size)
        self.current_batch: DataBatch | None = None
        self._guard = Guard()
        self._begun = self._ended = False

    def _take(self) -> DataBatch:
        """The next batch of this epoch; StopIteration after the last."""
        raise NotImplementedError

    def _begin(self) -> None:
        """Go to the start of an epoch."""
        raise NotImplementedError

    def _is_over(self) -> bool:
        """Whether an epoch that was begun has no other batch; in any thread, at any time."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        """True, even without a batch: an iterator is there."""
        return True

    def __iter__(self) -> Iterator[DataBatch]:
        """This iterator, at the start of the next epoch if nothing is left of this one."""
        self._guard.check()
        if self._at_end():  # else there is no need to wait for the loop of another thread
            with self._guard:
                if self._at_end():
                    self.iter_next()  # meet the end, as a loop would: "roll_over" keeps samples
                    self.reset()
        return self

    def _at_end(self) -> bool:
        return self._ended or (self._begun and self._is_over())

    def reset(self) -> None:
        """Begin the next epoch."""
        with self._guard:
            self._begin()
            self.current_batch = None
            self._begun = self._ended = False

    def iter_next(self) -> bool:
        """Move on to the next batch; False when the epoch is over."""
        with self._guard:
            self._begun = True
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
            BackendError: A thread cannot be started.
            PipelineClosedError: The iterator was closed, maybe while this waited for the batch; or
                this is a forked child, and threads of the parent work for the iterator.
        """
        with self._guard:
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
        current = self.current_batch
        if current is None:
            raise RuntimeError("there is no current batch: call next() or iter_next() first")
        return current

    def close(self) -> None:
        """End whatever runs for this iterator; batches handed out stay as they are."""
        self._guard.close(self._interrupt, self._end)

    def _interrupt(self) -> None:
        """Wake whoever waits for a batch; in any thread, at any time."""

    def _end(self) -> None:
        """Give everything back."""
        self.current_batch = None


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
        self._taken = 0  # batches of this epoch

    def __len__(self) -> int:
        """Batches in an epoch, the same for every part."""
        return self._order.length()

    def _take(self) -> DataBatch:
        if self._ahead is None:
            self._guard.begin()
            batches = map(self._load, self._order.batches(epoch=0))
            self._ahead = Prefetch(batches, self._depth, name="gpuio-file")
            self._guard.check()  # `close` may have come before there was anything to interrupt
        try:
            batch = next(self._ahead)
        except Exception:
            self._ended = True  # nothing of this epoch comes after a failure
            raise
        self._taken += 1
        return batch

    def _is_over(self) -> bool:
        return self._taken >= len(self)

    def _begin(self) -> None:
        self._taken = 0
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None

    def _interrupt(self) -> None:
        ahead = self._ahead
        if ahead is not None:
            ahead.interrupt()

    def _end(self) -> None:
        super()._end()
        self._begin()
