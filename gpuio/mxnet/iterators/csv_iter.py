"""MXNet's `CSVIter`: batches of numbers from text files with commas."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.core.options import make
from gpuio.core.signatures import suggest
from gpuio.formats.image_record import rounded_whole, rounding
from gpuio.mxnet.iterators.batch import DataBatch, DataDesc
from gpuio.mxnet.iterators.epochs import FileIter
from gpuio.mxnet.iterators.text_rows import Ids, open_rows
from gpuio.mxnet.ndarray import NDArray
from gpuio.samplers import SamplingConfig, Selection
from gpuio.storage.paths import PathLike

_DTYPES: Final = ("float32", "int32", "int64")
_FLOAT: Final = re.compile(rb"[.eE]")
_EXACT: Final = 1 << 53  # float64 holds all integers up to this one
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

    Raises:
        ValueError: A parameter has a wrong value.
        TypeError: A parameter has an unknown name.
        FileNotFoundError: A file is missing.
        FormatError: A file has no rows, or there are not as many labels as data. From `next`: a
            row has a wrong number of values, or a value that is not a number.
    """

    @suggest
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
        sampling = make(SamplingConfig, batch_size=batch_size, round_batch=round_batch)
        depth = p.integer("prefetch_buffer", prefetch_buffer, least=1)
        kind = np.dtype(p.dtype_name("dtype", dtype, _DTYPES))
        shape, target = p.sides("data_shape", data_shape), p.sides("label_shape", label_shape)
        rows, labels = open_rows(("data_csv", data_csv), ("label_csv", label_csv))
        read: _Read = partial(rows.parse, partial(_values, shape, kind))
        target = () if labels is None or target == (1,) else target
        read_label: _Read = partial(_zeros, kind)
        if labels is not None:
            read_label = partial(labels.parse, partial(_labels, target, kind))
        size = sampling.batch_size
        super().__init__(
            sampling.order(len(rows)),
            partial(_batch, read, read_label),
            depth,
            data=DataDesc(data_name, (size, *shape), kind.type),
            label=DataDesc(label_name, (size, *target), kind.type),
        )


_Read = Callable[[Ids], NDArray]


def _batch(read: _Read, read_label: _Read, selection: Selection) -> DataBatch:
    ids = selection.ids
    return DataBatch([read(ids)], [read_label(ids)], selection.pad, ids)


def _zeros(dtype: np.dtype[Any], ids: Ids) -> NDArray:
    return np.zeros(len(ids), dtype).view(NDArray)


def _values(
    shape: tuple[int, ...], dtype: np.dtype[Any], text: bytes, count: int, name: str = "data_shape"
) -> NDArray:
    """(count, *shape) values of `count` rows.

    Raises:
        ValueError: A row has a wrong number of values, or a value that is not a number.
    """
    if b",\n" in text or b",\r" in text:
        text = _LAST_COMMA.sub(b"", text)
    try:
        return _parsed(text, dtype).reshape(count, *shape).view(NDArray)
    except ValueError:
        fault = _fault(text, dtype, math.prod(shape)) if count == 1 else ""
        if fault:
            raise ValueError(f"{fault}; {name} is {shape or (1,)}") from None
        raise


def _labels(shape: tuple[int, ...], dtype: np.dtype[Any], text: bytes, count: int) -> NDArray:
    """(count, *shape) labels of `count` rows.

    Raises:
        ValueError: As in `_values`; or a label is a whole number that float32 cannot hold.
    """
    if dtype != np.float32:
        return _values(shape, dtype, text, count, "label_shape")
    exact = _values(shape, np.dtype(np.float64), text, count, "label_shape")
    place = rounded_whole(exact.reshape(-1))
    if place is not None:
        raise ValueError(f"{rounding(exact.reshape(-1)[place])}; dtype='int64' keeps it")
    with np.errstate(over="ignore"):  # to infinity, as for data
        return exact.astype(np.float32).view(NDArray)


def _parsed(text: bytes, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """(rows, columns) numbers in `text`; integers may be written as 1.0 and 1e3."""
    written = np.dtype(np.float64) if dtype.kind == "i" and _FLOAT.search(text) else dtype
    numbers = np.loadtxt(BytesIO(text), written, delimiter=",", comments=None, ndmin=2)
    with np.errstate(invalid="ignore"):
        values = numbers.astype(dtype, copy=False)
    if written != dtype:
        if (values != numbers).any():
            raise ValueError("a number is not an integer")
        if (abs(numbers) > _EXACT).any():
            rows = [line.split(",") for line in text.decode().splitlines()]
            values = np.array([[int(Decimal(field)) for field in row] for row in rows], dtype)
    return values


def _fault(text: bytes, dtype: np.dtype[Any], count: int) -> str:
    """What is wrong with one row; "" if it is valid."""
    fields = text.strip(b"\r\n").split(b",")
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
