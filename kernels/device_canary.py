"""Canaries on a CUDA device: bytes put where a decoder is to write, and looked for afterwards.

An image of which a canary is still there was not written, whatever its decoder says. The bytes of
an image depend on where they lie, so that canaries may overlap in a small one; its word is random,
so that pixels are hardly ever the same, and if they are, an image is decoded once more in vain.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, types

from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.device_pixels import field_offsets
from gpuio.kernels.native import device_function, load8, load64, store8

CANARY = np.dtype(
    [
        ("start", np.uint64),  # address of the image's memory
        ("nbytes", np.uint64),  # of all its pixels
        ("word", np.uint64),  # eight bytes that are repeated in it
    ]
)
SPOTS = 4
"""Canaries of an image: at its begin, at its end, and evenly between."""
SPOT_BYTES = 8

_I32, _U64 = np.int32, np.uint64
_BLOCK = (128, 1, 1)
_START, _NBYTES, _WORD = field_offsets(CANARY, "start nbytes word")
_ROW_BYTES = CANARY.itemsize


@device_function(types.UniTuple(types.uint64, 2)(types.uint64, types.int32))
def _spot(nbytes, spot):
    """Where a canary begins in an image of `nbytes` bytes, and how long it is."""
    length = min(nbytes, _U64(SPOT_BYTES))
    first = (nbytes - length) // _U64(SPOTS - 1) * _U64(spot)
    if spot == SPOTS - 1:
        first = nbytes - length
    return first, length


@device_function(types.int32(types.uint64, types.uint64))
def _canary_byte(word, at):
    """The byte of a canary that lies `at` bytes into its image."""
    return _I32((word >> (_U64(8) * (at % _U64(SPOT_BYTES)))) & _U64(255))


def _write_canaries(table, count):
    """What one thread of WRITE_CANARIES does: one canary of one image.

    Args:
        table: uint64, address of the CANARY table.
        count: int32, canaries of all images.
    """
    number = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if number < count:
        row = table + _U64(number // SPOTS) * _U64(_ROW_BYTES)
        start, word = load64(row + _START), load64(row + _WORD)
        first, length = _spot(load64(row + _NBYTES), number % SPOTS)
        for k in range(SPOT_BYTES):
            at = first + _U64(k)
            if _U64(k) < length:
                store8(start + at, _canary_byte(word, at))


def _check_canaries(table, count, flags):
    """What one thread of CHECK_CANARIES does: look at one canary of one image.

    Args:
        table: uint64, address of the CANARY table.
        count: int32, canaries of all images.
        flags: uint64, address of one byte for each canary: 1 if it is still there, else 0.
    """
    number = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if number < count:
        row = table + _U64(number // SPOTS) * _U64(_ROW_BYTES)
        start, word = load64(row + _START), load64(row + _WORD)
        first, length = _spot(load64(row + _NBYTES), number % SPOTS)
        there = _I32(length != _U64(0))
        for k in range(SPOT_BYTES):
            at = first + _U64(k)
            if _U64(k) < length and _I32(load8(start + at)) != _canary_byte(word, at):
                there = _I32(0)
        store8(flags + _U64(number), there)


def canary_grid(count):
    """Blocks of a launch for `count` canaries."""
    return -(-count // _BLOCK[0]), 1, 1


WRITE_CANARIES = DeviceKernel(
    "write_canaries", _write_canaries, types.void(types.uint64, types.int32), _BLOCK
)
"""`(table, count)`: write `count` canaries, SPOTS for each row."""

CHECK_CANARIES = DeviceKernel(
    "check_canaries", _check_canaries, types.void(types.uint64, types.int32, types.uint64), _BLOCK
)
"""`(table, count, flags)`: a byte for each of `count` canaries, whether it is still there."""
