"""Image records: the payload of a record is a header, labels and an encoded image.

    uint32 flag | float32 label | uint64 id | uint64 id2 | flag x float32 labels | image

All values are little-endian. Where flag is 0 the label is the field of that name; else the labels
follow the header and the field is 0.

Source: MXNet 1.9.1, python/mxnet/recordio.py and src/io/image_recordio.h.
"""

from __future__ import annotations

import numbers
import struct
import warnings
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from gpuio.errors import FormatError, LabelWarning

HEADER_FORMAT: Final = "<IfQQ"
HEADER_NBYTES: Final = struct.calcsize(HEADER_FORMAT)

_HEADER: Final = struct.Struct(HEADER_FORMAT)
EXACT: Final = 1 << 24
"""Float32 holds every whole number up to here."""


class HEADER(NamedTuple):
    """The header of an image record; the name is that of mxnet's type, used as `IRHeader`.

    Attributes:
        flag: 0 for one label; the number of labels otherwise. `pack` sets it.
        label: A float, or a (flag,) float32 array.
        id: The number of the image in its .lst, 0 to 2**64 - 1.
        id2: Reserved, 0.
    """

    flag: int
    label: Any
    id: int
    id2: int


IRHeader = HEADER


class HeaderError(FormatError, struct.error):
    """A payload is too short for a header; also the struct.error that mxnet raises."""


def pack(header: Sequence[Any], data: bytes) -> bytes:
    """The payload of an image record.

    Args:
        header: An `IRHeader` or its four values. The flag is ignored: a number as label gives
            flag 0, anything else is flattened to float32 labels and gives their count.
        data: The encoded image, or any bytes.

    Raises:
        TypeError: `header` has not four values.
        struct.error: A value does not fit its field.

    Warns:
        LabelWarning: A label is a whole number that float32 cannot hold, and so is stored as
            another one.
    """
    _, label, number, number2 = IRHeader(*header)
    if isinstance(label, numbers.Number):
        start = _packed(0, label, number, number2)
        value: Any = label
        if not -EXACT <= value <= EXACT:
            _warn_of_rounding(np.asarray(value).reshape(1))
        return start + data
    given = np.asarray(label)
    labels = given.astype("<f4", copy=False)
    _warn_of_rounding(given.reshape(-1))
    return _packed(labels.size, 0, number, number2) + labels.tobytes() + data


def _packed(flag: int, label: Any, number: Any, number2: Any) -> bytes:
    try:
        return _HEADER.pack(flag, label, number, number2)
    except struct.error as error:
        for name, value in (("id", number), ("id2", number2)):
            if isinstance(value, numbers.Integral) and not 0 <= int(value) < 1 << 64:
                reason = f"{name} must be 0 to 2**64 - 1, got {value}"
                raise struct.error(f"image record header: {reason}") from None
        raise struct.error(f"image record header: {error}") from None


def rounded_whole(values: npt.NDArray[Any]) -> int | None:
    """The position of the first whole number that float32 cannot hold; None if there is none.

    Fractions are ignored: they are expected to be rounded.

    Args:
        values: (N,) numbers of any type.
    """
    if values.dtype == np.float32 or values.dtype.kind not in "iufO":
        return None
    with np.errstate(all="ignore"):  # infinity and NaN are no whole numbers
        large = np.flatnonzero((values > EXACT) | (values < -EXACT))
        for place in large.tolist():
            value = values[place]
            # From 2**53 on every float64 is whole, so one that large is hardly meant as a number.
            whole = values.dtype.kind != "f" or (abs(value) < 1 << 53 and value == int(value))
            stored = np.float32(value)
            if whole and np.isfinite(stored) and int(value) != int(stored):
                return place
    return None


def rounding(value: Any) -> str:
    """The message for a label that `rounded_whole` found: the fault, and what to do."""
    return (
        f"label {int(value)} cannot be held by float32, in which labels are stored: it would "
        f"become {int(np.float32(value))}; number the classes from 0, or keep the number as the id"
    )


def _warn_of_rounding(values: npt.NDArray[Any]) -> None:
    place = rounded_whole(values)
    if place is not None:
        warnings.warn(rounding(values[place]), LabelWarning, stacklevel=3)


def unpack(payload: bytes) -> tuple[IRHeader, bytes]:
    """Header and image of an image record.

    The label is a float where the flag is 0, else a read-only (flag,) float32 array. A memoryview
    as payload gives a memoryview as image, without a copy.

    Raises:
        HeaderError: `payload` is shorter than a header.
        FormatError: `payload` is shorter than its labels.
    """
    if len(payload) < HEADER_NBYTES:
        raise HeaderError(f"image record header of {HEADER_NBYTES} bytes, {len(payload)} found")
    header = IRHeader(*_HEADER.unpack_from(payload))
    if not header.flag:
        return header, payload[HEADER_NBYTES:]
    start = HEADER_NBYTES + 4 * header.flag
    if len(payload) < start:
        found = len(payload) - HEADER_NBYTES
        raise FormatError(f"{header.flag} labels in {4 * header.flag} bytes, {found} bytes found")
    labels = np.frombuffer(payload, "<f4", header.flag, HEADER_NBYTES)
    labels.flags.writeable = False  # also where `payload` is a view of writable memory
    return header._replace(label=labels), payload[start:]
