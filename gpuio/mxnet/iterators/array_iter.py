"""MXNet's `NDArrayIter`: batches of arrays in memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.signatures import suggest
from gpuio.errors import LabelWarning
from gpuio.formats.image_record import rounded_whole, rounding
from gpuio.mxnet.advice import warn
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc
from gpuio.mxnet.iterators.epochs import EpochIter
from gpuio.mxnet.ndarray import NDArray

Ids: TypeAlias = npt.NDArray[np.int64]

_LAST_BATCH: Final = ("pad", "discard", "roll_over")


class NDArrayIter(EpochIter):
    """Batches of arrays, in order or shuffled.

    The arrays become float32; an `NDArray` and matrices of `scipy.sparse` keep their dtype.
    Arrays on disk (`np.memmap`, datasets of h5py and Zarr) are read batch by batch; an `NDArray` is
    not copied; all others are copied once. Matrices of `scipy.sparse` give batches in CSR form.

    Unlike in MXNet: shuffling keeps the dtype of an `NDArray`, and also works for arrays on disk
    and along any axis of the batch; batches of sparse matrices stay sparse with every
    `last_batch_handle`; samples that only some sources have are never used, and a source shorter
    than the first one is an error; "roll_over" with fewer samples than a batch collects them over
    several epochs; an unknown `last_batch_handle` is an error.

    Args:
        data: An array, a list of arrays, or a dict of them. A list of several is named
            `_0_data`, `_1_data` and so on. Sources come in the order of their names. The first
            one determines the number of samples; further samples of the others are not used.
        label: The labels, in the same forms; None for no labels. A whole number that float32 cannot
            hold causes a `LabelWarning`; an `NDArray` of labels keeps its dtype.
        batch_size: N, samples in a batch.
        shuffle: Shuffle at the start and at every reset, with NumPy's global generator
            (`np.random.seed`) and in MXNet's order.
        last_batch_handle: "pad" fills the last batch up from the start of the epoch, counted in
            `pad`; "discard" drops it; "roll_over" keeps its samples for the first batch of the
            next epoch, which counts them in `pad`.
        data_name: Name of a single data array.
        label_name: Name of a single label array.
        layout: A letter for each axis, "N" for the batch.

    Attributes:
        idx: (num_data,) int64, the last permutation; each shuffle permutes it again.
        cursor: Where the current batch starts in this epoch; negative before the first batch, and
            for a batch that begins with samples of the epoch before.
        num_data: Number of samples.
        num_source: Number of arrays, those of data and labels together.

    Raises:
        ValueError: A parameter has a wrong value, or sources have different lengths.
        TypeError: A source cannot be made an array.
    """

    _error_ends_epoch = False

    @suggest
    def __init__(  # noqa: PLR0917  MXNet's signature
        self,
        data: Any,
        label: Any = None,
        batch_size: int = 1,
        shuffle: bool = False,
        last_batch_handle: str = "pad",
        data_name: str = "data",
        label_name: str = "softmax_label",
        layout: str = "NCHW",
    ) -> None:
        super().__init__(p.integer("batch_size", batch_size, least=1))
        p.choice("last_batch_handle", last_batch_handle, _LAST_BATCH)
        self.shuffle = p.boolean("shuffle", shuffle)
        self.last_batch_handle = last_batch_handle
        self.layout = layout
        self._axis = DataDesc.get_batch_axis(layout)
        if self._axis < 0:
            raise ValueError(f"layout must have an 'N' for the batch, got {layout!r}")
        self._data = _sources("data", data, data_name)
        self._label = _sources("label", label, label_name)
        if not self._data:
            raise ValueError("data must have at least one array, got none")
        self.num_source = len(self._data) + len(self._label)
        self.num_data = self._count()
        self.idx = np.arange(self.num_data)
        self._order = self.idx.copy()
        self._kept = self._order[:0]
        self._begin()

    def _count(self) -> int:
        """Number of samples in the first source; no other has fewer."""
        sources = self._data + self._label
        for name, source in sources:
            if self._axis and isinstance(source, _SparseSource):
                raise ValueError(f"layout must begin with 'N' for {name!r}, a matrix in CSR form")
            if source.ndim <= self._axis:
                raise ValueError(
                    f"{name!r} must have the axis {self._axis} of the batch, "
                    f"got shape {source.shape}"
                )
        first, count = sources[0][0], int(sources[0][1].shape[self._axis])
        for name, source in sources:
            if source.shape[self._axis] < count:
                found = source.shape[self._axis]
                raise ValueError(f"{name!r} has {found} samples, {first!r} has {count}")
        if not count:
            raise ValueError(f"{first!r} has no sample")
        return count

    @property
    def data(self) -> list[tuple[str, Any]]:
        """(name, array) of each data source, in the order of this epoch."""
        return self._in_order(self._data)

    @property
    def label(self) -> list[tuple[str, Any]]:
        """(name, array) of each label source, in the order of this epoch."""
        return self._in_order(self._label)

    @property
    def data_list(self) -> list[Any]:
        """The arrays of `data` and `label`."""
        return [array for _, array in self.data + self.label]

    def _in_order(self, sources: list[tuple[str, _MemorySource]]) -> list[tuple[str, Any]]:
        if not self.shuffle:
            return [(name, source.array) for name, source in sources]
        return [(name, source.take(self._order, self._axis)) for name, source in sources]

    @property
    def provide_data(self) -> list[DataDesc]:
        """Description of `batch.data`."""
        return self._describe(self._data)

    @property
    def provide_label(self) -> list[DataDesc]:
        """Description of `batch.label`."""
        return self._describe(self._label)

    def _describe(self, sources: list[tuple[str, _MemorySource]]) -> list[DataDesc]:
        descriptions = []
        for name, source in sources:
            shape = list(source.shape)
            shape[self._axis] = self.batch_size
            descriptions.append(DataDesc(name, tuple(shape), source.dtype.type, self.layout))
        return descriptions

    def __len__(self) -> int:
        """Batches in this epoch."""
        return self._length

    def hard_reset(self) -> None:
        """Begin an epoch without the samples that "roll_over" has kept."""
        with self._guard:
            self._kept = self._kept[:0]
            self.reset()

    def _begin(self) -> None:
        if not self._ended and self.current_batch is not None:
            self._kept = self._kept[:0]  # the epoch was left before its end
        if self.shuffle:
            np.random.shuffle(self.idx)  # noqa: NPY002  as in MXNet, with the script's own seed
            self._order = self._order[self.idx]
        count = len(self._kept) + self.num_data
        short = 0 if self.last_batch_handle != "pad" else self.batch_size - 1
        self._length = (count + short) // self.batch_size
        self.cursor = -len(self._kept) - self.batch_size

    def _take(self) -> DataBatch:
        self.cursor += self.batch_size
        begin, stop = max(0, self.cursor), self.cursor + self.batch_size
        if self.last_batch_handle == "pad":
            if begin >= self.num_data:
                raise StopIteration
            ids = self._order[np.arange(begin, stop) % self.num_data]
            return self._batch(ids, pad=max(0, stop - self.num_data))
        kept = self._kept[: max(0, -self.cursor)]  # all of it in the first batch, then none
        if stop > self.num_data:
            if self.last_batch_handle == "roll_over":
                self._kept = np.concatenate([kept, self._order[begin:]])
            raise StopIteration
        return self._batch(np.concatenate([kept, self._order[begin:stop]]), pad=len(kept))

    def _is_over(self) -> bool:
        begin = self.cursor + self.batch_size
        if self.last_batch_handle == "pad":
            return begin >= self.num_data
        return begin + self.batch_size > self.num_data

    def _batch(self, ids: Ids, pad: int) -> DataBatch:
        data, label = (
            [source.take(ids, self._axis) for _, source in sources]
            for sources in (self._data, self._label)
        )
        return DataBatch(data, label, pad)


class _MemorySource:
    """An array in memory.

    Attributes:
        array: The array, as `NDArrayIter.data` shows it.
        shape: Shape of the array with all samples.
        dtype: Type of the elements of batches.
    """

    def __init__(self, array: Any, dtype: npt.DTypeLike) -> None:
        self.array = array
        self.shape: tuple[int, ...] = tuple(array.shape)
        self.ndim = len(self.shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)

    def take(self, ids: Ids, axis: int) -> Any:
        """The samples `ids`, in that order, in memory of their own."""
        return np.take(self.array, ids, axis).view(NDArray)


class _StoredSource(_MemorySource):
    """An array on disk, which is read in ascending order, each sample once."""

    def take(self, ids: Ids, axis: int) -> Any:
        wanted, places = np.unique(ids, return_inverse=True)
        rows: Any = wanted
        if wanted[-1] - wanted[0] == len(wanted) - 1:
            rows = slice(int(wanted[0]), int(wanted[-1]) + 1)
        values = np.asarray(self.array[(slice(None),) * axis + (rows,)], self.dtype)
        return np.take(values, places, axis).view(NDArray)


class _SparseSource(_MemorySource):
    """A matrix in CSR form, with the samples along axis 0."""

    def take(self, ids: Ids, axis: int) -> Any:
        return self.array[ids]


def _sources(parameter: str, given: Any, default: str) -> list[tuple[str, _MemorySource]]:
    """(name, source) of each array that was given as `data` or `label`, sorted by name."""
    if given is None:
        return []
    if isinstance(given, tuple | str | bytes):
        raise TypeError(
            f"{parameter} must be an array, a list of arrays or a dict of them, "
            f"got {type(given).__name__}"
        )
    if isinstance(given, Mapping):
        named = dict(given)
    elif not isinstance(given, list):
        named = {default: given}
    elif len(given) == 1:
        named = {default: given[0]}
    else:
        named = {f"_{number}_{default}": array for number, array in enumerate(given)}
    labels = parameter == "label"
    return [(name, _source(name, named[name], labels=labels)) for name in sorted(named)]


def _source(name: str, value: Any, *, labels: bool) -> _MemorySource:
    if isinstance(value, NDArray):
        return _MemorySource(value, value.dtype)
    if isinstance(value, np.memmap) or hasattr(value, "chunks"):
        return _StoredSource(value, np.float32)
    if "scipy.sparse" in sys.modules and sys.modules["scipy.sparse"].issparse(value):
        from gpuio.mxnet.csr import CSRNDArray

        return _SparseSource(CSRNDArray(value), value.dtype)
    try:
        exact = _on_host(value)
        array = np.array(exact, np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__name__
        raise TypeError(f"{name!r} must be like an array, got {kind}: {error}") from error
    if labels:
        flat = np.asarray(exact).reshape(-1)
        place = rounded_whole(flat)
        if place is not None:
            warn(f"{name}: {rounding(flat[place])}", LabelWarning)
    return _MemorySource(array.view(NDArray), array.dtype)


def _on_host(value: Any) -> Any:
    """An array that NumPy can read: those of PyTorch and CuPy are copied to the CPU."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return value
    if hasattr(value, "detach"):
        tensor = value.detach().cpu()
        return (tensor.float() if "bfloat16" in str(tensor.dtype) else tensor).numpy()
    if hasattr(value, "__cuda_array_interface__"):
        return value.get()
    return value if hasattr(value, "__array__") else np.from_dlpack(value)
