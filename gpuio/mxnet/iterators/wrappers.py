"""MXNet's iterators over other iterators: `ResizeIter` and `PrefetchingIter`."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from itertools import chain
from typing import Any

from gpuio.core import parameters as p
from gpuio.core.prefetch import Prefetch
from gpuio.core.signatures import suggest
from gpuio.errors import BackendError, PipelineClosedError
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc
from gpuio.mxnet.iterators.epochs import EpochIter
from gpuio.mxnet.ndarray import DeviceMethods


class ResizeIter(EpochIter):
    """Epochs of exactly `size` batches of another iterator, which is reset when it ends.

    `close` closes that iterator too, if it can be closed.

    Unlike in MXNet: batches are passed on unchanged, with `bucket_key` and all other attributes; an
    iterator without a batch is an error.

    Args:
        data_iter: Any iterator with `next` (or `__next__`), `reset` and `provide_data`.
        size: Batches in an epoch.
        reset_internal: Whether `reset` also resets `data_iter`.

    Attributes:
        cur: Number of batches of this epoch so far.
        provide_data: Descriptions of `batch.data`, those of `data_iter`.
        provide_label: Descriptions of `batch.label`, those of `data_iter`.
        default_bucket_key: That of `data_iter`, if it has one.

    Raises:
        ValueError: A parameter has a wrong value. From `next`: `data_iter` has no batch.
    """

    _error_ends_epoch = False

    @suggest
    def __init__(self, data_iter: Any, size: int, reset_internal: bool = True) -> None:
        super().__init__(_batch_size(data_iter))
        self.data_iter = data_iter
        self.size = p.integer("size", size, least=0)
        self.reset_internal = p.boolean("reset_internal", reset_internal)
        self.cur = 0
        self.provide_data = data_iter.provide_data
        self.provide_label = data_iter.provide_label
        if hasattr(data_iter, "default_bucket_key"):
            self.default_bucket_key = data_iter.default_bucket_key

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.size

    def _begin(self) -> None:
        self.cur = 0
        if self.reset_internal:
            self.data_iter.reset()

    def _take(self) -> Any:
        if self.cur == self.size:
            raise StopIteration
        try:
            batch = _next(self.data_iter)
        except StopIteration:
            self.data_iter.reset()
            try:
                batch = _next(self.data_iter)
            except StopIteration:
                raise ValueError("data_iter has no batch, not even after reset()") from None
        self.cur += 1
        return batch

    def _is_over(self) -> bool:
        return self.cur == self.size

    def _interrupt(self) -> None:
        _interrupt(self.data_iter)

    def _end(self) -> None:
        super()._end()
        _close(self.data_iter)


class PrefetchingIter(EpochIter):
    """Joins the batches of one or more iterators, each of which runs ahead in a thread of its own.

    A batch has the data and labels of all iterators, one after the other, `index` and `bucket_key`
    of the first, the `pad` of those that have one, and the first `masks`. The threads run from the
    first batch of an epoch until its end, `reset` or `close`, which drop batches that are ready.
    `close` closes the iterators too, if they can be closed.

    Unlike in MXNet: an exception in an iterator is raised by `next`, and ends the epoch; different
    pads or numbers of batches are a ValueError; names that are not in `rename_data` and
    `rename_label` stay; layouts are kept.

    Args:
        iters: Iterators with `next` (or `__next__`), `reset`, `provide_data` and `provide_label`,
            none of them twice; or a single one.
        rename_data: For each iterator {old name: new name}, applied to `provide_data`.
        rename_label: For each iterator {old name: new name}, applied to `provide_label`.

    Attributes:
        n_iter: Number of iterators.
        batch_size: Samples in a batch, by the first description of data.

    Raises:
        ValueError: A parameter has a wrong value. From `next`: the iterators do not fit together.
    """

    @suggest
    def __init__(
        self,
        iters: Any,
        rename_data: Sequence[Mapping[str, str]] | None = None,
        rename_label: Sequence[Mapping[str, str]] | None = None,
    ) -> None:
        self.iters = list(iters) if isinstance(iters, list | tuple) else [iters]
        self.n_iter = len(self.iters)
        if not self.iters:
            raise ValueError("iters must have at least one iterator, got none")
        if len({id(it) for it in self.iters}) < self.n_iter:
            raise ValueError("iters must differ from each other, got one twice")
        super().__init__(_batch_size(self.iters[0]))
        self.rename_data, self.rename_label = rename_data, rename_label
        _check_names("rename_data", rename_data, [it.provide_data for it in self.iters])
        _check_names("rename_label", rename_label, [it.provide_label for it in self.iters])
        self._ahead: list[Prefetch[Any]] = []

    def __len__(self) -> int:
        """Batches in an epoch, if the first iterator knows their number."""
        return len(self.iters[0])

    @property
    def provide_data(self) -> list[Any]:
        """Descriptions of `batch.data`."""
        return _renamed([it.provide_data for it in self.iters], self.rename_data)

    @property
    def provide_label(self) -> list[Any]:
        """Descriptions of `batch.label`."""
        return _renamed([it.provide_label for it in self.iters], self.rename_label)

    def _start(self) -> None:
        if self._ahead:
            return
        self._guard.begin()
        for number, it in enumerate(self.iters):
            try:
                self._ahead.append(Prefetch(_batches(it), 1, name=f"gpuio-prefetching-{number}"))
            except BackendError:
                self._ended = number > 0  # the threads before this one have taken a batch
                self._stop()
                raise
        self._guard.check()  # `close` may have come before there was anything to interrupt

    def _take(self) -> DataBatch:
        try:
            batches = [next(ahead, None) for ahead in self._ahead]
            if all(batch is None for batch in batches):
                raise StopIteration  # noqa: TRY301  the threads end here too
            return self._joined(batches)
        except BaseException:
            self._ended = True  # the iterators may be at different batches now
            self._stop()
            raise

    def _is_over(self) -> bool:
        threads = self._ahead
        try:
            return bool(threads) and all(ahead.is_over() for ahead in threads)
        except PipelineClosedError:  # another thread began an epoch, or closed the iterator
            return False

    def _joined(self, batches: list[Any]) -> DataBatch:
        for number, batch in enumerate(batches):
            if (batch is None) != (batches[0] is None):
                ended, other = (number, 0) if batch is None else (0, number)
                raise ValueError(f"iters[{ended}] has ended, iters[{other}] has another batch")
        pads = [getattr(batch, "pad", None) for batch in batches]
        distinct = {pad for pad in pads if pad is not None}
        if len(distinct) > 1:
            raise ValueError(f"iters must give batches of the same pad, got {pads}")
        _order(batches)
        first = batches[0]
        augmentation: dict[str, Any] = {}
        masks = None
        for batch in batches:
            augmentation |= getattr(batch, "augmentation", {})
            masks = getattr(batch, "masks", None) if masks is None else masks
        return DataBatch(
            list(chain.from_iterable(batch.data or () for batch in batches)),
            list(chain.from_iterable(batch.label or () for batch in batches)),
            distinct.pop() if distinct else None,
            getattr(first, "index", None),
            getattr(first, "bucket_key", None),
            self._of_batch("provide_data", batches, self.rename_data),
            self._of_batch("provide_label", batches, self.rename_label),
            augmentation,
            masks,
        )

    def _of_batch(
        self, name: str, batches: list[Any], names: Sequence[Mapping[str, str]] | None
    ) -> list[Any]:
        """Descriptions of these batches, which may differ from those of the iterators."""
        descriptions: list[Any] = [getattr(batch, name, None) for batch in batches]
        if any(description is None for description in descriptions):
            descriptions = [getattr(it, name) for it in self.iters]
        return _renamed(descriptions, names)

    def _begin(self) -> None:
        self._stop()
        for it in self.iters:
            it.reset()

    def _stop(self) -> None:
        ahead, self._ahead = self._ahead, []
        for thread in ahead:
            thread.close()

    def _interrupt(self) -> None:
        for ahead in list(self._ahead):
            ahead.interrupt()
        for it in self.iters:
            _interrupt(it)

    def _end(self) -> None:
        super()._end()
        self._stop()
        for it in self.iters:
            _close(it)


def _order(batches: Sequence[Any]) -> None:
    """Let the stream of the thread that gets the batches wait for them, and note that it reads.

    They were taken in other threads, for the streams that are current there.
    """
    for batch in batches:
        for array in (*(batch.data or ()), *(batch.label or ()), getattr(batch, "masks", None)):
            if isinstance(array, DeviceMethods):
                array.order()


def _next(it: Any) -> Any:
    """The next batch of an iterator of MXNet's kind, or of Python's."""
    return it.next() if hasattr(it, "next") else next(it)


def _close(it: Any) -> None:
    if hasattr(it, "close"):
        it.close()


def _interrupt(it: Any) -> None:
    """End the wait of another thread for a batch; iterators of others may not support that."""
    if isinstance(it, EpochIter):
        it.close()


def _batches(it: Any) -> Generator[Any, None, None]:
    """The batches that are left of an epoch."""
    while True:
        try:
            batch = _next(it)
        except StopIteration:
            return
        yield batch


def _batch_size(it: Any) -> int:
    """The batch size of an iterator, from its attribute or its first description."""
    if getattr(it, "batch_size", 0):
        return int(it.batch_size)
    for description in it.provide_data:
        axis = DataDesc.get_batch_axis(getattr(description, "layout", None))
        return int(description[1][max(0, axis)])
    raise ValueError("an iterator without batch_size must have provide_data")


def _check_names(
    parameter: str,
    names: Sequence[Mapping[str, str]] | None,
    descriptions: list[Sequence[Any]],
) -> None:
    if names is None:
        return
    if len(names) != len(descriptions):
        raise ValueError(
            f"{parameter} must have a dict for each iterator: {len(descriptions)}, got {len(names)}"
        )
    for number, (own, described) in enumerate(zip(names, descriptions, strict=True)):
        known = [description[0] for description in described]
        for name in own:
            if name not in known:
                raise ValueError(f"{parameter}[{number}] has {name!r}, iters[{number}] has {known}")


def _renamed(
    descriptions: Sequence[Sequence[Any]], names: Sequence[Mapping[str, str]] | None
) -> list[Any]:
    if names is None:
        return list(chain.from_iterable(descriptions))
    renamed = []
    for own, described in zip(names, descriptions, strict=True):
        for old in described:
            desc = old if isinstance(old, DataDesc) else DataDesc(*old)
            name = own.get(desc.name, desc.name)
            renamed.append(DataDesc(name, desc.shape, desc.dtype, desc.layout))
    return renamed
