"""EXIF orientation: how a camera was held, 1 to 8.

Source: Exif 2.32 (CIPA DC-008), section 4.6.4, tag 0x0112; JPEG segments: ITU-T T.81, annex B.
"""

from __future__ import annotations

import struct
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

_ORIENTATION = 0x0112
_SHORT = 3
_SEGMENT = struct.Struct(">BBH")  # 0xFF, marker, bytes that follow, these two counted
_APP1, _START_OF_SCAN, _END_OF_IMAGE = 0xE1, 0xDA, 0xD9


def jpeg_orientation(data: bytes | memoryview) -> int:
    """Orientation of a JPEG, 1 to 8; 1 where it has none or it cannot be read.

    Args:
        data: The JPEG; only its first segments are read, never its pixels.
    """
    place = exif_place(data)
    if place is None:
        return 1
    length = int.from_bytes(data[place - 2 : place], "big")
    return tiff_orientation(bytes(data[place + 6 : place - 2 + length]))


def exif_place(data: bytes | memoryview) -> int | None:
    """Offset of the marker `Exif` of a JPEG; None where there is none before its pixels."""
    position, last = 2, len(data) - 4
    while position <= last:
        prefix, marker, length = _SEGMENT.unpack_from(data, position)
        if prefix != 0xFF:
            break
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker in (_START_OF_SCAN, _END_OF_IMAGE):
            break
        end = position + 2 + length
        if marker == _APP1 and data[position + 4 : min(end, position + 10)] == b"Exif\0\0":
            return position + 4
        position = end
    return None


def tiff_orientation(data: bytes) -> int:
    """Orientation in EXIF data, as it follows the marker `Exif` or as a PNG holds it; else 1."""
    data = data.removeprefix(b"Exif\0\0")
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    if data[:2] not in (b"II", b"MM"):
        return 1
    number = partial(int.from_bytes, byteorder=order)
    directory = number(data[4:8])
    for entry in range(number(data[directory : directory + 2])):
        field = data[directory + 2 + 12 * entry : directory + 14 + 12 * entry]
        if len(field) < 12:
            break
        if number(field[:2]) == _ORIENTATION and number(field[2:4]) == _SHORT:
            value = number(field[8:10])
            return value if 1 <= value <= 8 else 1
    return 1


def orient(image: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """An image turned and mirrored for display.

    Args:
        image: (H, W) or (H, W, C), as stored.
        orientation: 1 to 8. 5 to 8 exchange height and width.
    """
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else 1)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else 1)
    return np.ascontiguousarray(image[rows, columns])
