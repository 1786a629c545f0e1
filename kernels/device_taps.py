"""Taps of resizes on a CUDA device: a thread computes those of one row or column of a window.

The tables lie at the `taps` of each STEP row, as those of `tabulate` in tables.py. They are for all
resizes but LANCZOS.
"""

from __future__ import annotations

import numpy as np
from numba import cuda, types

from gpuio.kernels.arithmetic import nearest
from gpuio.kernels.axis_taps import area_tap, cubic_four, tap_place
from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.device_pixels import field_offsets
from gpuio.kernels.native import device_function, load32, load64, store32
from gpuio.kernels.steps import AREA_EXTRA, STEP, StepKind

TAPS_ON_DEVICE = (
    StepKind.NEAREST,
    StepKind.LINEAR,
    StepKind.CUBIC,
    StepKind.AREA,
    StepKind.AREA_LINEAR,
)
"""Kinds whose tables the kernel TAPS makes."""

_F32, _I32, _U64 = np.float32, np.int32, np.uint64
_INT, _ADDRESS = types.int32, types.uint64
_STEP_BYTES = STEP.itemsize
_UNIT = np.float32(2048)
_BLOCK = (128, 1, 1)

_TAPS, _KIND, _ROWS, _COLS, _Y, _X = field_offsets(STEP, "taps kind rows cols y x")
_SRC_HEIGHT, _SRC_WIDTH, _DST_HEIGHT, _DST_WIDTH = field_offsets(
    STEP, "src_height src_width dst_height dst_width"
)


@device_function(_INT(*[_INT] * 3))
def _count(kind, src, dst):
    """Taps along one axis."""
    if kind == StepKind.AREA:
        return _I32(np.uint32(src) // np.uint32(dst)) + AREA_EXTRA
    if kind == StepKind.CUBIC:
        return _I32(4)
    if kind == StepKind.NEAREST:
        return _I32(1)
    return _I32(2)


@device_function(types.void(_ADDRESS, _INT, _INT, _INT, types.float32))
def _store_tap(at, taps, count, place, weight):
    """Write a place, and behind the places of all taps its weight in 1/2048."""
    store32(at, place)
    store32(at + _U64(4) * _U64(taps * count), _I32(nearest(weight * _UNIT)))


@device_function(types.void(_ADDRESS, *[_INT] * 9))
def _axis_taps(at, kind, src, dst, first, j, count, taps, step, horizontal):
    """The taps of position `j` of an axis.

    Args:
        at: Address of the axis' tables: (taps, count) places, then (taps, count) weights.
        kind: One of TAPS_ON_DEVICE.
        src: Source length, in pixels.
        dst: Length of the result, in pixels.
        first: The window's first position.
        j: The position in the window.
        count: Positions of the window.
        taps: Taps of a position.
        step: What one source pixel is in the places.
        horizontal: Whether the axis is x.
    """
    scale = 1.0 / (np.float64(dst) / np.float64(src))
    if kind == StepKind.AREA:
        weights = at + _U64(4) * _U64(taps * count)
        area_tap(src, scale, first + j, j, count, taps, step, at, weights)
        return
    i, t = tap_place(kind, scale, src, first + j, horizontal != 0)
    last, apart = src - 1, _U64(4) * _U64(count)
    at = at + _U64(4) * _U64(j)
    if kind == StepKind.CUBIC:
        a, b, c, d = cubic_four(t)
        _store_tap(at, taps, count, _I32(min(max(i - 1, 0), last) * step), a)
        _store_tap(at + apart, taps, count, _I32(min(max(i, 0), last) * step), b)
        at = at + _U64(2) * apart
        _store_tap(at, taps, count, _I32(min(max(i + 1, 0), last) * step), c)
        _store_tap(at + apart, taps, count, _I32(min(max(i + 2, 0), last) * step), d)
    else:
        _store_tap(at, taps, count, _I32(min(max(i, 0), last) * step), _F32(1) - t)
        if kind != StepKind.NEAREST:
            _store_tap(at + apart, taps, count, _I32(min(max(i + 1, 0), last) * step), t)


def _taps(table, channels):
    """What one thread of TAPS does.

    Args:
        table: uint64, address of the (N,) STEP table; only kinds of TAPS_ON_DEVICE are looked at.
        channels: int32, 1, 3 or 4.
    """
    place = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
    kind, rows, cols = load32(step + _KIND), load32(step + _ROWS), load32(step + _COLS)
    if (
        kind == StepKind.NEAREST
        or kind == StepKind.LINEAR
        or kind == StepKind.CUBIC
        or kind == StepKind.AREA
        or kind == StepKind.AREA_LINEAR
    ):
        at, width, wide = load64(step + _TAPS), load32(step + _SRC_WIDTH), load32(step + _DST_WIDTH)
        across = _count(kind, width, wide)
        if place < cols:
            x = load32(step + _X)
            _axis_taps(at, kind, width, wide, x, place, cols, across, channels, 1)
        elif place < cols + rows:
            height, high = load32(step + _SRC_HEIGHT), load32(step + _DST_HEIGHT)
            down, y = _count(kind, height, high), load32(step + _Y)
            at = at + _U64(8) * _U64(across * cols)
            _axis_taps(at, kind, height, high, y, _I32(place - cols), rows, down, 1, 0)


def taps_grid(kernel, table):
    """Blocks along x, y and z of a launch that serves all of a table.

    Args:
        kernel: TAPS.
        table: (N,) STEP, on the host; N is at least 1, and at most 65535.
    """
    places = int((table["rows"].astype(np.int64) + table["cols"]).max())
    return -(-places // kernel.block[0]), 1, len(table)


TAPS = DeviceKernel("taps", _taps, types.void(_ADDRESS, _INT), _BLOCK)
"""`(table, channels)`: the tables of all rows of kinds of TAPS_ON_DEVICE."""
