"""Converting labels to the type that a framework wants."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from gpuio.core import parameters as p
from gpuio.errors import LabelError, LabelWarning
from gpuio.formats.image_record import EXACT

_KINDS = ("float32", "int32", "int64")


def label_dtype(
    given: npt.DTypeLike | None, *, single: bool, whole: str = "int64"
) -> np.dtype[Any]:
    """The dtype of labels: `given`, or if that is None, `whole` for one label and float32 for more.

    Raises:
        ValueError: `given` is not float32, int32 or int64.
    """
    if given is None:
        given = whole if single else "float32"
    return np.dtype(p.dtype_name("label_dtype", given, _KINDS))


def convert(
    stored: npt.NDArray[np.float32], dtype: np.dtype[Any], keys: Sequence[Any] | None = None
) -> npt.NDArray[Any]:
    """Labels in another type; not a copy where the type is the same.

    Args:
        stored: (N, ...) float32 labels.
        dtype: Type of the result.
        keys: (N,) keys of the records, for messages.

    Warns:
        LabelWarning: Whole labels are so large that they may have been rounded when stored.

    Raises:
        LabelError: The type cannot hold a label, which has a fraction or is too large.
    """
    with np.errstate(invalid="ignore"):  # NaN and infinity: see below
        labels = stored.astype(dtype, copy=False)
    if labels is stored:
        return labels
    kept = labels == stored
    if dtype.kind in "iu":
        # As a float32 the largest number of the type is one more, which it cannot hold.
        kept &= np.abs(stored) < np.float32(np.iinfo(dtype).max)
        if kept.all() and np.abs(stored).max(initial=0) > EXACT:
            warnings.warn(
                f"labels beyond {EXACT} are stored as float32, which holds not every whole number "
                "of that size: some may have become others when they were packed",
                LabelWarning,
                stacklevel=2,
            )
    if not kept.all():
        place = np.argwhere(~kept)[0]
        where = "" if keys is None else f"key {keys[place[0]]}: "
        raise LabelError(
            f"{where}label {stored[tuple(place)]} is no {dtype}: label_dtype='float32' keeps what "
            "is stored"
        )
    return labels
