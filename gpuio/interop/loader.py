"""The base of the loaders for all frameworks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from gpuio.core.guard import SharedLock
from gpuio.interop import labels

if TYPE_CHECKING:
    from gpuio.mxnet.iterators.batch import DataBatch
    from gpuio.mxnet.iterators.record_iter import RecordIter


class Loader(ABC):
    """Batches of an iterator as `(images, labels)` in a framework's arrays; masks come third.

    A `for` loop goes through the batches that are left of the epoch: all of them, or those after a
    `break` or `load_state_dict`. If none is left, it begins the next epoch, and so does `reset` at
    any time. All loops share the iterator's position in the data. A batch is never overwritten
    while anything refers to it. Threads may share `iter(loader)`.

    Args:
        source: The iterator; closed by `close`.
        label_dtype: Type of the labels; None is `whole` where an image has one label, a class, and
            float32 where it has several.
        whole: The framework's type of integers.

    Attributes:
        source: The iterator. It has more of the last batch, such as `getindex()`.
    """

    def __init__(
        self,
        source: RecordIter,
        label_dtype: npt.DTypeLike | None = None,
        whole: str = "int64",
    ) -> None:
        self.source = source
        single = len(source.provide_label[0].shape) == 1
        self._label_dtype = labels.label_dtype(label_dtype, single=single, whole=whole)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.source!r}>"

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.source)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return _Loop(self.source, self._convert)

    def _convert(self, batch: DataBatch) -> tuple[Any, ...]:
        images = self._taken(batch.data[0])  # type: ignore[index]
        stored = np.asarray(batch.label[0])  # type: ignore[index]
        targets = self._brought(labels.convert(stored, self._label_dtype, batch.index), images)
        if batch.masks is None:
            return images, targets
        return images, targets, self._taken(batch.masks)

    @abstractmethod
    def _taken(self, array: Any) -> Any:
        """An array of the iterator's device as the framework's, over the same memory."""

    @abstractmethod
    def _brought(self, array: npt.NDArray[Any], images: Any) -> Any:
        """An array of the host as the framework's, where `images` are."""

    @property
    def batch_size(self) -> int:
        """Images in a batch."""
        return self.source.batch_size

    @property
    def epoch(self) -> int:
        """The epoch of the batch that comes next, from 0."""
        return int(self.state_dict()["epoch"])

    @property
    def pad(self) -> int:
        """How many images at the end of the last batch are repeats that fill it up."""
        return self.source.getpad()

    def reset(self) -> None:
        """Make the next loop begin the next epoch; no effect at the start of one."""
        self.source.reset()

    def set_epoch(self, epoch: int) -> None:
        """Make the next loop go through `epoch`, or through what a loaded state has left of it."""
        if self.source.begun or self.source.epoch != epoch:
            self.source.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is: see `ImageRecordIter.state_dict`."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Make the next loop continue from a state: see `ImageRecordIter.load_state_dict`."""
        self.source.load_state_dict(state)

    def close(self) -> None:
        """End all threads and give memory back; batches that were returned stay as they are."""
        self.source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Loop(Iterator[tuple[Any, ...]]):
    """One loop over the batches of an iterator; it begins when the first batch is asked for.

    Each batch goes to exactly one of the threads that ask, and is converted in that thread.
    """

    def __init__(self, source: RecordIter, convert: Callable[[DataBatch], tuple[Any, ...]]) -> None:
        self._batches = chain(source)  # calls `iter(source)` only for the first batch
        self._convert = convert
        self._lock = SharedLock()

    def __next__(self) -> tuple[Any, ...]:
        with self._lock:
            batch = next(self._batches)
        return self._convert(batch)
