"""MXNet's interface between iterators and training loops: DataDesc, DataBatch and DataIter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt


class _NameShape(NamedTuple):
    name: str
    shape: tuple[int, ...]


class DataDesc(_NameShape):
    """Name and shape of one input of a model; equal to, and unpacked as, that pair.

    Attributes:
        name: Name of the input.
        shape: Shape of a batch, with the batch size first unless `layout` has "N" elsewhere.
        dtype: Type of the elements.
        layout: A letter for each axis, "N" for the batch.
    """

    dtype: Any
    layout: str | None

    def __new__(
        cls,
        name: str,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike = np.float32,
        layout: str | None = "NCHW",
    ) -> Self:
        self = super().__new__(cls, name, shape)
        self.dtype = dtype
        self.layout = layout
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.name, self.shape, self.dtype, self.layout

    def __repr__(self) -> str:
        return f"DataDesc[{self.name},{self.shape},{self.dtype},{self.layout}]"

    @staticmethod
    def get_batch_axis(layout: str | None) -> int:
        """The axis of the batch in `layout`: 0 without one, -1 where there is no "N"."""
        return 0 if layout is None else layout.find("N")

    @staticmethod
    def get_list(
        shapes: Sequence[tuple[str, tuple[int, ...]]],
        types: Sequence[tuple[str, Any]] | None = None,
    ) -> list[DataDesc]:
        """Descriptions from (name, shape) and (name, dtype) pairs."""
        if types is None:
            return [DataDesc(name, shape) for name, shape in shapes]
        by_name = dict(types)
        return [DataDesc(name, shape, by_name[name]) for name, shape in shapes]


class DataBatch:
    """One batch.

    Attributes:
        data: Inputs, each an array whose first axis is the batch.
        label: Targets, each an array whose first axis is the batch.
        pad: How many samples at the end only fill the batch up.
        index: (N,) keys of the samples, or None.
        bucket_key: For models that take several lengths.
        provide_data: Descriptions of `data`, or None.
        provide_label: Descriptions of `label`, or None.
        augmentation: By name of an augmentation, (N, ...) the sampled values; empty without any.
        masks: (N, H, W) uint8, a label for each pixel, or None.
    """

    def __init__(  # noqa: PLR0913, PLR0917  MXNet's signature
        self,
        data: Sequence[Any] | None,
        label: Sequence[Any] | None = None,
        pad: int | None = None,
        index: Any = None,
        bucket_key: Any = None,
        provide_data: Sequence[Any] | None = None,
        provide_label: Sequence[Any] | None = None,
        augmentation: Mapping[str, Any] | None = None,
        masks: Any = None,
    ) -> None:
        if data is not None:
            assert isinstance(data, list | tuple), "Data must be list of NDArrays"
        if label is not None:
            assert isinstance(label, list | tuple), "Label must be list of NDArrays"
        self.data = data
        self.label = label
        self.pad = pad
        self.index = index
        self.bucket_key = bucket_key
        self.provide_data = provide_data
        self.provide_label = provide_label
        self.augmentation = augmentation or {}
        self.masks = masks

    def __str__(self) -> str:
        data = None if self.data is None else [d.shape for d in self.data]
        label = None if self.label is None else [d.shape for d in self.label]
        return f"{type(self).__name__}: data shapes: {data} label shapes: {label}"


class DataIter:
    """Base of all iterators over batches.

    Args:
        batch_size: Samples in a batch.
    """

    def __init__(self, batch_size: int = 0) -> None:
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[DataBatch]:
        return self

    def __next__(self) -> DataBatch:
        return self.next()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all threads and give memory back."""

    def reset(self) -> None:
        """Begin the next epoch."""

    def next(self) -> DataBatch:
        """The next batch.

        Raises:
            StopIteration: The epoch is over; `reset` begins another.
        """
        if self.iter_next():
            return DataBatch(self.getdata(), self.getlabel(), self.getpad(), self.getindex())
        raise StopIteration

    def iter_next(self) -> bool:
        """Move on to the next batch; False when the epoch is over."""
        return False

    def getdata(self) -> list[Any] | None:
        """`data` of the current batch."""

    def getlabel(self) -> list[Any] | None:
        """`label` of the current batch."""

    def getindex(self) -> Any:
        """`index` of the current batch."""

    def getpad(self) -> int | None:
        """`pad` of the current batch."""


class BatchIter(DataIter):
    """Base of iterators that keep the batch that they returned last.

    Attributes:
        current_batch: That batch; None before the first one of an epoch and after the last.
    """

    def __init__(self, batch_size: int = 0) -> None:
        super().__init__(batch_size)
        self.current_batch: DataBatch | None = None

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
