"""Colours of mx.image: one linear map of each pixel's colour, from levels to float32.

What mx.image does to colours is linear and never clipped, so that any number of its steps make one
map `A v + B mean(v) + c`, where `v` is a pixel's colour and `mean(v)` that of its picture.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arrays import BYTES, DOUBLES, FLOATS, arguments, array_at
from gpuio.kernels.native import device_function
from gpuio.kernels.parallel import Task

MAP = 21
"""float64 values of a map: A and B, row by row, then c."""

_CHANNELS = 3
_U32 = np.uint32


@device_function(types.UniTuple(types.int64, 3)(BYTES, types.int64))
def _sums(pixels, count):
    """Sums of the three channels of `count` pixels, int64."""
    red, green, blue = np.int64(0), np.int64(0), np.int64(0)
    for k in range(count):
        red += pixels[_U32(3 * k)]
        green += pixels[_U32(3 * k + 1)]
        blue += pixels[_U32(3 * k + 2)]
    return red, green, blue


@device_function(types.void(BYTES, types.int64, DOUBLES, FLOATS))
def _mapped(pixels, count, table, out):
    """Map `count` interleaved colours into three planes."""
    of_means = False
    for k in range(9, 18):
        of_means = of_means or table[k] != 0
    sums = np.int64(0), np.int64(0), np.int64(0)
    if of_means:
        sums = _sums(pixels, count)
    for c in range(_CHANNELS):
        offset = table[18 + c]
        if of_means:
            for k in range(_CHANNELS):
                offset += table[9 + 3 * c + k] * sums[k] / count
        plane = out[c * count : (c + 1) * count]
        a, b = np.float32(table[3 * c]), np.float32(table[3 * c + 1])
        d, e = np.float32(table[3 * c + 2]), np.float32(offset)
        for k in range(count):
            red, green = np.float32(pixels[_U32(3 * k)]), np.float32(pixels[_U32(3 * k + 1)])
            plane[k] = red * a + green * b + np.float32(pixels[_U32(3 * k + 2)]) * d + e


@Task
def map_colors(args, item, worker, base):
    """One picture of a batch.

    Args:
        args: Addresses of the (N, H, W, 3) uint8 pictures, of (N, MAP) float64 maps and of the (N,
            3, H, W) float32 result; H * W.
    """
    arg = arguments(args, 4)
    count = np.int64(arg[3])
    size = _CHANNELS * count
    pixels = array_at(arg[0] + np.uint64(item * size), size, np.uint8)
    table = array_at(arg[1] + np.uint64(item * MAP * 8), MAP, np.float64)
    out = array_at(arg[2] + np.uint64(item * size * 4), size, np.float32)
    _mapped(pixels, count, table, out)
