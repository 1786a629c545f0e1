"""Resizing of floating-point images: the kernels' formulas with weights that are not quantised.

Weights are float32, sums have the type of the image, nothing is rounded or cut off: what MXNet
1.9.1's OpenCV does with such images, but for the order in which it adds.

Source: OpenCV 3.4, modules/imgproc/src/resize.cpp.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arrays import array_at
from gpuio.kernels.native import stack
from gpuio.kernels.routine import Routine
from gpuio.kernels.steps import AREA_EXTRA, TAPS, StepKind, resize_kinds
from gpuio.kernels.taps import area_taps, tap_weights

_F32 = np.float32
_AXIS = types.uint64, types.uint64, types.int64, types.int64, types.uint64  # tables, and `out`


def _fixed_taps(kind, src, dst, count, index, weight):
    """Fill the tables of a kind with a fixed number of taps.

    Args:
        kind: NEAREST, LINEAR, AREA_LINEAR, CUBIC or LANCZOS.
        src: Source length, in pixels.
        dst: Output length, in pixels.
        count: Taps.
        index: Address of (count, dst) int32, overwritten with source positions, clamped.
        weight: Address of (count, dst) float32, overwritten.
    """
    places, shares = array_at(index, count * dst, np.int32), array_at(weight, count * dst, _F32)
    scale = 1.0 / (np.float64(dst) / np.float64(src))
    real = array_at(stack(32), 8, np.float32)
    for d in range(dst):
        first = tap_weights(kind, scale, src, d, False, real)
        for k in range(count):
            places[k * dst + d] = min(max(first + k, 0), src - 1)
            shares[k * dst + d] = real[k]


def _area_taps(kind, src, dst, count, index, weight):
    """Fill the tables of AREA or AREA_INTEGER; arguments as `_fixed_taps`."""
    places, shares = array_at(index, count * dst, np.int32), array_at(weight, count * dst, _F32)
    area_taps(src, dst, 0, dst, count, 1, places, shares)


_TABLES = types.void(*[types.int64] * 4, types.uint64, types.uint64)
_fixed_tables, _area_tables = Routine(_fixed_taps, _TABLES), Routine(_area_taps, _TABLES)


def _across_routine(dtype):
    """The routine that resizes an image of a type along x."""
    itemsize = np.dtype(dtype).itemsize

    def across(image, rows, cols, channels, index, weight, taps, width, out):
        """(rows, cols, channels) at address `image` into (rows, width, channels) at `out`."""
        places, shares = (
            array_at(index, taps * width, np.int32),
            array_at(weight, taps * width, _F32),
        )
        for y in range(rows):
            at = np.uint64(y * channels * itemsize)
            line = array_at(image + at * np.uint64(cols), cols * channels, dtype)
            to = array_at(out + at * np.uint64(width), width * channels, dtype)
            for x in range(width):
                for c in range(channels):
                    to[x * channels + c] = line[places[x] * channels + c] * shares[x]
                for k in range(1, taps):
                    for c in range(channels):
                        value = line[places[k * width + x] * channels + c]
                        to[x * channels + c] += value * shares[k * width + x]

    return Routine(
        across, types.void(types.uint64, *[types.int64] * 3, *_AXIS), np.dtype(dtype).name
    )


def _down_routine(dtype):
    """The routine that resizes an image of a type along y."""
    itemsize = np.dtype(dtype).itemsize

    def down(image, rows, size, index, weight, taps, height, out):
        """(rows, size) values at address `image` into (height, size) at `out`."""
        places, shares = (
            array_at(index, taps * height, np.int32),
            array_at(weight, taps * height, _F32),
        )
        for y in range(height):
            to = array_at(out + np.uint64(y * size * itemsize), size, dtype)
            for k in range(taps):
                at = image + np.uint64(places[k * height + y] * size * itemsize)
                line, factor = array_at(at, size, dtype), shares[k * height + y]
                for x in range(size):
                    to[x] = line[x] * factor + (to[x] if k else 0)

    return Routine(
        down, types.void(types.uint64, types.int64, types.int64, *_AXIS), np.dtype(dtype).name
    )


def _axis(kind, src, dst):
    """(taps, dst) source positions and weights of each output position along one axis."""
    area = kind in (StepKind.AREA, StepKind.AREA_INTEGER)
    taps = src // dst + AREA_EXTRA if area else int(TAPS[kind])
    index, weight = np.empty((taps, dst), np.int32), np.empty((taps, dst), np.float32)
    fill = _area_tables if area else _fixed_tables
    fill(int(kind), src, dst, taps, index.ctypes.data, weight.ctypes.data)
    return index, weight


_ACROSS = {dtype: _across_routine(dtype) for dtype in (np.float32, np.float64)}
_DOWN = {dtype: _down_routine(dtype) for dtype in (np.float32, np.float64)}


def resize(image, height, width, inter=1):
    """An image, resized in the calling thread without the GIL.

    Args:
        image: (H, W, C) float32 or float64.
        height: Height of the result, in pixels.
        width: Width of the result, in pixels.
        inter: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos.

    Returns:
        (height, width, C) of the type of `image`.
    """
    image = np.ascontiguousarray(image)
    rows, cols, channels = image.shape
    kind = resize_kinds(np.array([[rows, cols]]), np.array([[height, width]]), np.array([inter]))[0]
    if (rows, cols) == (height, width):
        return image.copy()
    image_type = image.dtype.type
    middle = np.empty((rows, width, channels), image.dtype)
    index, weight = _axis(kind, cols, width)
    tables = (index.ctypes.data, weight.ctypes.data, len(index), width)
    _ACROSS[image_type](image.ctypes.data, rows, cols, channels, *tables, middle.ctypes.data)
    out = np.empty((height, width, channels), image.dtype)
    index, weight = _axis(kind, rows, height)
    tables = (index.ctypes.data, weight.ctypes.data, len(index), height)
    _DOWN[image_type](middle.ctypes.data, rows, width * channels, *tables, out.ctypes.data)
    return out
