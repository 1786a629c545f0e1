"""MXNet's `LibSVMIter`: batches of sparse rows from LibSVM files."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.options import make
from gpuio.core.signatures import suggest
from gpuio.formats.image_record import rounded_whole, rounding
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc
from gpuio.mxnet.iterators.epochs import FileIter
from gpuio.mxnet.iterators.text_rows import EMPTY, Ids, open_rows
from gpuio.mxnet.ndarray import NDArray
from gpuio.samplers import SamplingConfig, Selection
from gpuio.storage.paths import PathLike

if TYPE_CHECKING:
    from gpuio.mxnet.csr import CSRNDArray

_NUMBER: Final = rb"[-+]?(?:\d++\.?\d*+|\.\d++)(?:[eE][-+]?\d++)?+"
_ROW: Final = rb"[ \t]*+" + _NUMBER + rb"(?:[ \t]++\d++:" + _NUMBER + rb")*+[ \t]*+\r?+"
_ROWS: Final = re.compile(rb"(?:" + _ROW + rb"\n)*+")
_LEFT_OUT: Final = re.compile(rb"#[^\n]*+|[ \t]qid:\S++")


class LibSVMIter(FileIter):
    """Batches of rows of LibSVM files in CSR form, read and parsed ahead in a thread.

    A row is `label index:value index:value ...`, with indices from 0. Comments (`#`) and query
    ids (`qid:`) are skipped. Needs SciPy: `batch.data` holds a `scipy.sparse.csr_array` that also
    has the method `asnumpy`.

    Unlike in MXNet: every epoch begins with the first row, and holds every row once; parts are
    ranges of rows with equally many batches, filled up with rows of the part; `round_batch=False`
    gives a short last batch; an index outside `data_shape`, or twice in a row, is an error.

    Args:
        data_libsvm: A file; several joined with ";" or in a list; or a folder.
        data_shape: (columns,) of the matrix.
        batch_size: N, rows in a batch.
        label_libsvm: Files whose indices and values are the labels, in CSR form; "NULL" takes the
            labels from the data, as (N,).
        label_shape: (columns,) of the labels, more than 1 with `label_libsvm`.
        num_parts: Readers that share the data set, each with a contiguous part of it; "auto" asks
            the launcher for this number and `part_index`.
        part_index: This reader, in [0, num_parts).
        round_batch: True fills the last batch up with the first rows, counted in `pad`; False
            leaves it short.
        prefetch_buffer: Finished batches that may wait, at least 1.
        dtype: float32 (also None).
        data_name: Name in `provide_data`.
        label_name: Name in `provide_label`.
        ctx: Accepted for MXNet's scripts, without effect.

    Raises:
        ValueError: A parameter has a wrong value.
        TypeError: A parameter has an unknown name.
        BackendError: SciPy is not installed.
        FileNotFoundError: A file is missing.
        FormatError: A file has no rows, or there are not as many labels as data. From `next`: a
            row has another form, an index that is too large, or an index twice.
    """

    @suggest
    def __init__(  # noqa: PLR0913  MXNet's signature
        self,
        data_libsvm: PathLike | Sequence[PathLike],
        data_shape: int | Sequence[int],
        batch_size: int,
        *,
        label_libsvm: PathLike | Sequence[PathLike] | None = "NULL",
        label_shape: int | Sequence[int] = (1,),
        num_parts: int | str = 1,
        part_index: int | None = 0,
        round_batch: bool = True,
        prefetch_buffer: int = 4,
        dtype: npt.DTypeLike | None = None,
        data_name: str = "data",
        label_name: str = "softmax_label",
        ctx: str = "gpu",
    ) -> None:
        import gpuio.mxnet.csr  # noqa: F401  an error here is better than one in the thread

        sampling = make(
            SamplingConfig,
            batch_size=batch_size,
            round_batch=round_batch,
            num_parts=num_parts,
            part_index=part_index,
        )
        depth = p.integer("prefetch_buffer", prefetch_buffer, least=1)
        p.dtype_name("dtype", dtype, ("float32",))
        columns = _columns("data_shape", data_shape)
        targets = _columns("label_shape", label_shape)
        data, label = ("data_libsvm", data_libsvm), ("label_libsvm", label_libsvm)
        rows, labels = open_rows(data, label, comments=True)
        if labels is not None and targets == 1:
            raise ValueError("label_shape must be more than 1 with label_libsvm, got 1")
        if labels is None and targets != 1:
            raise ValueError(f"label_shape must be (1,) without label_libsvm, got ({targets},)")
        read = partial(rows.parse, partial(_parse, columns, "data_shape"))
        read_label: _Read | None = None
        if labels is not None:
            read_label = partial(labels.parse, partial(_parse, targets, "label_shape"))
        size = sampling.batch_size
        label_sides = (size,) if labels is None else (size, targets)
        super().__init__(
            sampling.order(len(rows)),
            partial(_batch, read, read_label),
            depth,
            data=DataDesc(data_name, (size, columns), np.float32),
            label=DataDesc(label_name, label_sides, np.float32),
        )


_Read = Callable[[Ids], tuple["CSRNDArray", NDArray]]


def _columns(name: str, value: Any) -> int:
    shape = p.sides(name, value)
    if len(shape) != 1:
        raise ValueError(f"{name} must be one integer, got {value!r}")
    return shape[0]


def _batch(read: _Read, read_label: _Read | None, selection: Selection) -> DataBatch:
    matrix, first = read(selection.ids)
    label = first if read_label is None else read_label(selection.ids)[0]
    return DataBatch([matrix], [label], selection.pad, selection.ids)


def _parse(columns: int, name: str, text: bytes, count: int) -> tuple[CSRNDArray, NDArray]:
    """The (count, columns) matrix of `count` rows, and the (count,) first numbers of the rows.

    Raises:
        ValueError: A row is malformed.
    """
    from gpuio.mxnet.csr import CSRNDArray

    text = EMPTY.sub(b"", _LEFT_OUT.sub(b"", text))
    if not _ROWS.fullmatch(text):
        shown = text.decode(errors="replace").strip()
        raise ValueError(f"{shown!r} is not 'label index:value ...'; {name} is ({columns},)")
    pairs = np.array([line.count(b":") for line in text.splitlines()], np.int64)
    if len(pairs) != count:
        raise ValueError(f"{count} rows are not as they were when the file was opened")
    numbers = np.fromstring(text.replace(b":", b" "), np.float64, sep=" ")
    heads = np.cumsum(2 * pairs + 1) - (2 * pairs + 1)
    place = rounded_whole(numbers[heads])
    if place is not None:
        raise ValueError(rounding(numbers[heads][place]))
    label = numbers[heads].astype(np.float32).view(NDArray)
    numbers = np.delete(numbers, heads)
    values = numbers[1::2].astype(np.float32)
    if len(values) and (largest := numbers[::2].max()) >= columns:  # an int64 might not hold it
        raise ValueError(f"index {largest:.0f} is outside; {name} is ({columns},)")
    indices = numbers[::2].astype(np.int64)
    bounds = np.concatenate([[0], np.cumsum(pairs)])
    matrix = CSRNDArray((values, indices, bounds), shape=(count, columns))
    matrix.sort_indices()
    if not matrix.has_canonical_format:
        raise ValueError("an index is there twice")
    return matrix, label
