"""MXNet's `CSVIter`: batches of numbers from text files with commas."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.errors import FormatError
from gpuio.formats.image_record import rounded_whole, rounding
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc
from gpuio.mxnet.iterators.epochs import FileIter
from gpuio.mxnet.iterators.text_rows import (
    Ids,
    PathLike,
    TextRows,
    check_same_length,
    is_given,
    sides,
)
from gpuio.mxnet.ndarray import NDArray
from gpuio.samplers import LastBatch, Order, Selection
from gpuio.storage import paths

_DTYPES: Final = ("float32", "int32", "int64")
_FLOAT: Final = re.compile(rb"[.eE]")
_LAST_COMMA: Final = re.compile(rb",(?=\r?\n)")


class CSVIter(FileIter):
    """Batches of rows of .csv files, read and parsed ahead in a thread.

    The files are read once at the start, to find the rows; they are never in memory as a whole.
    Empty lines are skipped, and a comma at the end of a row is ignored.

    Unlike in MXNet: every epoch begins with the first row, and holds every row once; `round_batch`
    repeats rows as often as the last batch needs; without it the last batch is short, not filled
    up with old rows; a value that the dtype cannot hold, such as 1.5 for int32, is an error that
    names file and row.

    Args:
        data_csv: A file; several joined with ";" or in a list; or a folder.
        data_shape: Shape of one sample; a row has as many values as a sample has elements.
        batch_size: N, rows in a batch.
        label_csv: Files with the labels, a row for each row of data; "NULL" makes all labels 0.
        label_shape: Shape of one label; for (1,) the labels of a batch are (N,).
        round_batch: True fills the last batch up with the first rows, counted in `pad`; False
            leaves it short.
        prefetch_buffer: Finished batches that may wait, at least 1.
        dtype: Type of data and labels: float32 (also None), int32 or int64.
        data_name: Name in `provide_data`.
        label_name: Name in `provide_label`.
        ctx: Accepted for MXNet's scripts, without effect.

    Attributes:
        batch_size: Rows in a batch.
        provide_data: Description of `batch.data`.
        provide_label: Description of `batch.label`.

    Raises:
        ValueError: A parameter has a wrong value.
        TypeError: A parameter has an unknown name.
        FileNotFoundError: A file is missing.
        FormatError: A file has no rows, or there are not as many labels as data. From `next`: a
            row has a wrong number of values, or a value that is not a number.
    """

    @p.suggest
    def __init__(  # noqa: PLR0913  MXNet's signature
        self,
        data_csv: PathLike | Sequence[PathLike],
        data_shape: int | Sequence[int],
        batch_size: int,
        *,
        label_csv: PathLike | Sequence[PathLike] | None = "NULL",
        label_shape: int | Sequence[int] = (1,),
        round_batch: bool = True,
        prefetch_buffer: int = 4,
        dtype: npt.DTypeLike | None = None,
        data_name: str = "data",
        label_name: str = "softmax_label",
        ctx: str = "gpu",
    ) -> None:
        size = p.integer("batch_size", batch_size, least=1)
        kind = np.dtype(p.dtype_name("dtype", dtype, _DTYPES))
        shape, target = sides("data_shape", data_shape), sides("label_shape", label_shape)
        target = () if target == (1,) else target
        depth = p.integer("prefetch_buffer", prefetch_buffer, least=1)
        last: LastBatch = "pad" if p.boolean("round_batch", round_batch) else "short"
        paths.check_paths("data_csv", data_csv, required=True)
        paths.check_paths("label_csv", label_csv, required=is_given(label_csv))
        rows = TextRows.open(data_csv)
        read = partial(_values, rows, shape, kind, "data_shape")
        if is_given(label_csv):
            labels = TextRows.open(label_csv)  # type: ignore[arg-type]  # it is not None
            check_same_length(labels, rows)
            read_label = partial(_labels, labels, target, kind)
        else:
            target, read_label = (), partial(_zeros, kind)
        order = Order(len(rows), size, last_batch=last)
        super().__init__(order, partial(_batch, read, read_label), depth)
        self.provide_data = [DataDesc(data_name, (size, *shape), kind.type)]
        self.provide_label = [DataDesc(label_name, (size, *target), kind.type)]


_Read = Callable[[Ids], NDArray]


def _batch(read: _Read, read_label: _Read, selection: Selection) -> DataBatch:
    ids = selection.ids
    return DataBatch([read(ids)], [read_label(ids)], selection.pad, ids)


def _zeros(dtype: np.dtype[Any], ids: Ids) -> NDArray:
    return np.zeros(len(ids), dtype).view(NDArray)


def _values(
    rows: TextRows, shape: tuple[int, ...], dtype: np.dtype[Any], parameter: str, ids: Ids
) -> NDArray:
    """(N, *shape) values of the rows `ids`.

    Raises:
        FormatError: A row has a wrong number of values, or a value that is not a number; or a file
            has changed.
    """
    text = rows.read(ids)
    if b",\n" in text or b",\r" in text:
        text = _LAST_COMMA.sub(b"", text)
    try:
        values = _parsed(text, dtype).reshape(len(ids), *shape).view(NDArray)
    except ValueError as error:
        count = int(np.prod(shape))
        for row in ids:
            fault = _fault(rows.read(np.array([row])), dtype, count)
            if fault:
                place = rows.where(int(row))
                raise FormatError(f"{place}: {fault}; {parameter} is {shape or (1,)}") from None
        raise FormatError(f"{rows}: {error}") from error
    return values


def _labels(rows: TextRows, shape: tuple[int, ...], dtype: np.dtype[Any], ids: Ids) -> NDArray:
    """(N, *shape) labels of the rows `ids`.

    Raises:
        FormatError: As in `_values`; or a label is a whole number that float32 cannot hold.
    """
    if dtype != np.float32:
        return _values(rows, shape, dtype, "label_shape", ids)
    exact = _values(rows, shape, np.dtype(np.float64), "label_shape", ids)
    place = rounded_whole(exact.reshape(-1))
    if place is not None:
        row = int(ids[place // max(exact[0].size, 1)])
        reason = rounding(exact.reshape(-1)[place])
        raise FormatError(f"{rows.where(row)}: {reason}; dtype='int64' keeps it")
    with np.errstate(over="ignore"):  # to infinity, as for data
        return exact.astype(np.float32).view(NDArray)


def _parsed(text: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """(rows, columns) numbers in `text`; integers may be written as 1.0 and 1e3."""
    written = np.dtype(np.float64) if dtype.kind == "i" and _FLOAT.search(text) else dtype
    numbers = np.loadtxt(BytesIO(text), written, delimiter=",", comments=None, ndmin=2)
    with np.errstate(invalid="ignore"):
        values = numbers.astype(dtype, copy=False)
    if written != dtype and (values != numbers).any():
        raise ValueError("a number is not an integer")
    return values


def _fault(text: bytes, dtype: np.dtype[Any], count: int) -> str:
    """What is wrong with one row; "" if it is valid."""
    fields = _LAST_COMMA.sub(b"", text).strip(b"\r\n").split(b",")
    if len(fields) != count:
        return f"{len(fields)} values, not {count}"
    for field in fields:
        if not _is_number(field, dtype):
            return f"{field.decode(errors='replace')!r} is no {dtype}"
    return ""


def _is_number(field: bytes, dtype: np.dtype[Any]) -> bool:
    try:
        return bool(field.strip()) and _parsed(field, dtype).size == 1
    except ValueError:
        return False
