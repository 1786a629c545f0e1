"""Taps of a resize for one position of an axis, the same bits on CPU and CUDA.

No product is fused with a sum. Indices may lie outside of the image.

Source: OpenCV 3.4, modules/imgproc/src/resize.cpp, which MXNet 1.9.1 bundles.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from gpuio.kernels.native import device_function, mul_rn, mul_rn_double, store32, store_float
from gpuio.kernels.steps import StepKind

_F32 = np.float32
_INT, _LONG, _FLOAT, _DOUBLE = types.int32, types.int64, types.float32, types.float64
_PLACE = types.Tuple((types.int64, types.float32))
_ONE = np.float32(1)


@device_function(types.UniTuple(_FLOAT, 4)(_FLOAT))
def cubic_four(t):
    """The four weights of cubic convolution with A = -0.75 at fraction `t`, as float32."""
    a = _F32(-0.75)
    u = t + _ONE
    first = mul_rn(mul_rn(mul_rn(a, u) - _F32(5) * a, u) + _F32(8) * a, u) - _F32(4) * a
    second = mul_rn(mul_rn(mul_rn(a + _F32(2), t) - (a + _F32(3)), t), t) + _ONE
    u = _ONE - t
    third = mul_rn(mul_rn(mul_rn(a + _F32(2), u) - (a + _F32(3)), u), u) + _ONE
    return first, second, third, _ONE - first - second - third


@device_function(
    _PLACE(_LONG, _DOUBLE, _LONG, _LONG, types.boolean),
    _PLACE(_INT, _DOUBLE, _INT, _INT, types.boolean),
)
def tap_place(kind, scale, src, place, horizontal):
    """Where a kind with a fixed number of taps reads for one position of the result.

    Args:
        kind: NEAREST, LINEAR, AREA_LINEAR, CUBIC or LANCZOS.
        scale: float64, source pixels for each position.
        src: Source length, in pixels.
        place: The position.
        horizontal: Whether the axis is x, where LINEAR also clamps its weights.

    Returns:
        The source pixel left of the place, and the float32 fraction between it and the next.
    """
    if kind == StepKind.NEAREST:
        return int(math.floor(place * scale)), _F32(0)
    if kind == StepKind.AREA_LINEAR:
        i = int(math.floor(place * scale))
        t = _F32((place + 1) - mul_rn_double(np.float64(i + 1), 1.0 / scale))
        t = _F32(0) if t <= 0 else t - _F32(math.floor(t))
    else:
        f = _F32(mul_rn_double(place + 0.5, scale) - 0.5)
        i = int(math.floor(f))
        t = f - _F32(i)
    if horizontal and (kind == StepKind.LINEAR or kind == StepKind.AREA_LINEAR):
        if i < 0:
            i, t = 0, _F32(0)
        if i >= src - 1:
            i, t = src - 1, _F32(0)
    return i, t


@device_function(
    types.void(_LONG, _DOUBLE, *[_LONG] * 5, *[types.uint64] * 2),
    types.void(_INT, _DOUBLE, *[_INT] * 5, *[types.uint64] * 2),
)
def area_tap(src, scale, place, j, count, taps, step, index, weight):
    """Write the taps of an area average for one position of the result.

    Args:
        src: Source length, in pixels, at least the output's.
        scale: float64, source pixels for each position.
        place: The position.
        j: The position in the tables.
        count: Positions that these have.
        taps: Taps that the tables have space for, at least ceil(scale) + 2.
        step: What one source pixel is in `index`.
        index: Address of (taps, count) int32; column `j` is written.
        weight: Address of (taps, count) float32; unused taps weigh 0.
    """
    begin = mul_rn_double(np.float64(place), scale)
    end = begin + scale
    cell = min(scale, src - begin)
    stop = min(int(math.floor(end)), src - 1)
    start = min(int(math.ceil(begin)), stop)
    at, apart = np.uint64(4) * np.uint64(j), np.uint64(4) * np.uint64(count)
    k = 0
    if start - begin > 1e-3:
        store32(index + at, np.int32((start - 1) * step))
        store_float(weight + at, _F32((start - begin) / cell))
        at += apart
        k += 1
    for i in range(start, stop):
        store32(index + at, np.int32(i * step))
        store_float(weight + at, _F32(1.0 / cell))
        at += apart
        k += 1
    if end - stop > 1e-3:
        store32(index + at, np.int32(stop * step))
        store_float(weight + at, _F32(min(min(end - stop, 1.0), cell) / cell))
        at += apart
        k += 1
    for _ in range(k, taps):
        store32(index + at, np.int32(stop * step))
        store_float(weight + at, _F32(0))
        at += apart
