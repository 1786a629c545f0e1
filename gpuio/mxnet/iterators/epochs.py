"""The base of all iterators: one epoch after another, and the rule where a loop begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar

from gpuio.core.guard import Guard
from gpuio.core.prefetch import Prefetch
from gpuio.mxnet.iterators.batch import BatchIter, DataBatch, DataDesc
from gpuio.samplers import Order, Selection


class EpochIter(BatchIter):
    """Base of iterators over one epoch after another.

    An iterator is at the start of an epoch, inside one, or at its end. `next` at the end raises
    StopIteration. A new `for` loop goes through the batches that are left of the epoch; if none is
    left, it begins the next epoch. `reset` begins the next epoch at any time. Any thread may call
    any method: each batch goes to one of the threads that call `next`, and `close` ends the wait of
    all of them.

    A derived class implements `_take`, `_begin` and `_is_over`. All of them but `_is_over` and
    `_interrupt` are called by one thread at a time, in the guard.

    Attributes:
        batch_size: Samples in a batch.
        begun: Whether a batch was asked for since the iterator was made, or was sent to the start
            of an epoch or to a saved state.
    """

    _error_ends_epoch: ClassVar[bool] = True
    """Whether an error ends the epoch; otherwise `next` goes on with the batch after it."""

    def __init__(self, batch_size: int = 0) -> None:
        super().__init__(batch_size)
        self.begun = False
        self._ended = False
        self._guard = Guard()

    def _begin(self) -> None:
        """Go to the start of the next epoch."""
        raise NotImplementedError

    def _start(self) -> None:
        """Start threads, unless they run; an error here leaves the batch to be asked for again."""

    def _take(self) -> DataBatch:
        """The next batch of this epoch; StopIteration after the last."""
        raise NotImplementedError

    def _is_over(self) -> bool:
        """Whether an epoch that was begun has no other batch; in any thread, at any time."""
        raise NotImplementedError

    def _is_spent(self) -> bool:
        """Whether a thread that makes the batches has ended, and all that it left was taken."""
        return False

    def _interrupt(self) -> None:
        """Wake every thread that waits for a batch; in any thread, at any time."""

    def _end(self) -> None:
        """End all threads and give memory back, once."""
        self.current_batch = None

    def __bool__(self) -> bool:
        """True, also for an iterator without a batch, whose length is 0."""
        return True

    def __iter__(self) -> Iterator[DataBatch]:
        """This iterator, at the start of the next epoch if nothing is left of this one."""
        self._guard.check()
        if self._at_end():  # otherwise this need not wait for the loop of another thread
            with self._guard:
                if self._at_end():
                    self.iter_next()  # meet the end, as a loop would: "roll_over" keeps samples
                    self.reset()
        return self

    def _at_end(self) -> bool:
        return self._ended or (self.begun and self._is_over())

    def reset(self) -> None:
        """Begin the next epoch."""
        with self._guard:
            self._begin()
            self._rewound()

    def _rewound(self) -> None:
        """Note that the iterator stands before the first batch that it is to return."""
        self.current_batch = None
        self.begun = self._ended = False

    def iter_next(self) -> bool:
        """Move on to the next batch; False when the epoch is over."""
        with self._guard:
            self.begun, self.current_batch = True, None
            if self._ended:
                return False
            self._start()
            try:
                self.current_batch = self._take()
            except StopIteration:
                self._ended = True
                return False
            except BaseException as error:
                # After a KeyboardInterrupt while this waited, the batch may be asked for again.
                if isinstance(error, Exception) or self._is_spent():
                    self._ended = self._error_ends_epoch
                raise
            return True

    def next(self) -> DataBatch:
        """The next batch.

        Raises:
            StopIteration: The epoch is over; `reset` begins another.
            BackendError: A thread cannot be started; the batch may be asked for again.
            PipelineClosedError: The iterator was closed, maybe while this waited for the batch; or
                this is a forked child, and threads of the parent work for the iterator.
        """
        with self._guard:
            if self.iter_next():
                return self._current
            raise StopIteration

    def close(self) -> None:
        """End all threads and give memory back; batches that were returned stay as they are."""
        self._guard.close(self._interrupt, self._end)


class FileIter(EpochIter):
    """Base of iterators that read batches from files, ahead in a thread.

    Args:
        order: Which samples each batch holds.
        load: Reads the values of the samples of a batch.
        depth: How many finished batches may wait.
        data: Description of `batch.data`.
        label: Description of `batch.label`.

    Attributes:
        provide_data: A list of `data` alone.
        provide_label: A list of `label` alone.
    """

    def __init__(
        self,
        order: Order,
        load: Callable[[Selection], DataBatch],
        depth: int,
        *,
        data: DataDesc,
        label: DataDesc,
    ) -> None:
        super().__init__(order.batch_size)
        self.provide_data, self.provide_label = [data], [label]
        self._order, self._load, self._depth = order, load, depth
        self._ahead: Prefetch[DataBatch] | None = None
        self._batch_count = 0  # of this epoch, so far

    def __len__(self) -> int:
        """Batches in an epoch, the same for every part."""
        return self._order.length()

    def _start(self) -> None:
        if self._ahead is None:
            self._guard.begin()
            batches = map(self._load, self._order.batches(epoch=0))
            self._ahead = Prefetch(batches, self._depth, name="gpuio-file")
            self._guard.check()  # `close` may have come before there was anything to interrupt

    def _take(self) -> DataBatch:
        assert self._ahead is not None
        batch = next(self._ahead)
        self._batch_count += 1
        return batch

    def _is_over(self) -> bool:
        return self._batch_count >= len(self)

    def _is_spent(self) -> bool:
        return self._ahead is not None and self._ahead.is_spent()

    def _begin(self) -> None:
        self._batch_count = 0
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
