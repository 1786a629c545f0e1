"""PNG writing, for many threads at once.

Pillow holds the interpreter lock while it writes a PNG, and cannot write 16-bit colour. zlib and
NumPy release the lock.

Source: W3C Portable Network Graphics, third edition (2025), sections 5, 9 and 12.7.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_COLOR_TYPES: Final = {1: 0, 3: 2, 4: 6}  # gray, RGB, RGBA


def encode(image: npt.NDArray[Any], level: int) -> bytes:
    """A PNG.

    Args:
        image: (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA; uint8 or uint16.
        level: Compression level of zlib, 0 (fast) to 9 (small).
    """
    height, width = image.shape[:2]
    channels = image.shape[2] if image.ndim == 3 else 1
    depth = image.itemsize
    rows = image.astype(image.dtype.newbyteorder(">"), copy=False)
    raw = np.ascontiguousarray(rows).view(np.uint8).reshape(height, -1)
    header = struct.pack(
        ">IIBBBBB", width, height, 8 * depth, _COLOR_TYPES[channels], 0, 0, 0
    )  # fmt: skip
    packed = zlib.compress(_filtered(raw, channels * depth).data, level)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", packed), _chunk(b"IEND", b""))
    return b"".join((_SIGNATURE, *chunks))


def _filtered(raw: npt.NDArray[np.uint8], step: int) -> npt.NDArray[np.uint8]:
    """Each row as its difference from the best prediction, after the number of that filter.

    Rows are (H, bytes) uint8, with `step` bytes per pixel. The best filter has the smallest sum of
    absolute differences (section 12.7).
    """
    left = np.zeros_like(raw)
    left[:, step:] = raw[:, :-step]
    up = np.zeros_like(raw)
    up[1:] = raw[:-1]
    corner = np.zeros_like(raw)
    corner[1:, step:] = raw[:-1, :-step]
    out = np.zeros((len(raw), raw.shape[1] + 1), np.uint8)
    best = np.full(len(raw), np.iinfo(np.int64).max)
    average = (left & up) + ((left ^ up) >> 1)  # floor of the mean, without a wider type
    guesses = (np.zeros_like(raw), left, up, average, _paeth(left, up, corner))
    for number, guess in enumerate(guesses):
        difference = raw - guess
        cost = np.abs(difference.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64)
        better = cost < best
        best[better] = cost[better]
        out[better, 0] = number
        out[better, 1:] = difference[better]
    return out


def _paeth(
    left: npt.NDArray[np.uint8], up: npt.NDArray[np.uint8], corner: npt.NDArray[np.uint8]
) -> npt.NDArray[np.uint8]:
    """The neighbour that is nearest to left + up - corner; ties go left, then up."""
    base = corner.astype(np.int16)
    to_left = np.abs(up - base)
    to_up = np.abs(left - base)
    to_corner = np.abs(left + (up - base) - base)
    nearest_up = np.where(to_up <= to_corner, up, corner)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest_up)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
