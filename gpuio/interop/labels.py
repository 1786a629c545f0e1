"""The type of labels in frameworks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio import parameters as p
from gpuio.errors import LabelError

_KINDS = ("float32", "int32", "int64")


def label_dtype(
    given: npt.DTypeLike | None, *, single: bool, whole: str = "int64"
) -> np.dtype[Any]:
    """The type asked for; `whole` for a single label, which is a class, and else float32.

    Raises:
        ValueError: It is not float32, int32 or int64.
    """
    if given is None:
        given = whole if single else "float32"
    return np.dtype(p.dtype_name("label_dtype", given, _KINDS))


def convert(stored: npt.NDArray[np.float32], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Labels in another type, without a copy where it is their own.

    Raises:
        LabelError: A label is not whole, and the type has no place for that.
    """
    labels = stored.astype(dtype, copy=False)
    if labels is not stored and (labels != stored).any():
        value = stored[labels != stored][0]
        raise LabelError(f"label {value} is no {dtype}: label_dtype='float32' keeps what is stored")
    return labels
