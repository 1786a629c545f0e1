"""Affine warps with fixed-point coordinates, to the last bit of OpenCV's.

A pixel of the canvas is read at a place in 1/32 pixels, and the weights of the taps around it
come from a table for the 32 x 32 fractions. Places are sums of a row's and a column's integer,
which are computed on the host in double precision.

Source: OpenCV 3.4, modules/imgproc/src/imgwarp.cpp (warpAffine, remap, initInterTab2D).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import types

from gpuio.kernels.arithmetic import FAR, warp_fraction, warp_level, warp_linear_level
from gpuio.kernels.arrays import BYTES, DOUBLES, INTS, LONGS, array_at, cut
from gpuio.kernels.native import device_function
from gpuio.kernels.pixels import STEP_ROW, pixel_routine
from gpuio.kernels.routine import Routine
from gpuio.kernels.steps import STEP, TAPS
from gpuio.kernels.taps import cubic_weights, lanczos_weights

_FRACTIONS = 32
_U32, _U64 = np.uint32, np.uint64
_FAR = np.float64(FAR)
_INT, _LONG, _DOUBLE = types.int32, types.int64, types.float64
_ROW = types.void(BYTES, *[_LONG] * 5, INTS, INTS, _LONG, BYTES)
_PICTURE = types.Tuple((BYTES, *[_LONG] * 5))
_WARP = types.void(STEP_ROW, _PICTURE, INTS, INTS, _LONG, BYTES)
_EXACT = 2.0**52  # sums of two numbers up to here are exact in double precision


def _line_writer(weigh, taps):
    """A routine that writes (32, taps) float32 weights, by fraction, to an address."""

    def write_lines(to):
        for k in range(_FRACTIONS):
            line = array_at(to + _U64(4 * taps * k), taps, np.float32)
            weigh(np.float32(k) / np.float32(_FRACTIONS), line)

    return Routine(write_lines, types.void(types.uint64), str(taps))


_WEIGHT_LINES = {4: _line_writer(cubic_weights, 4), 8: _line_writer(lanczos_weights, 8)}


@cache
def weight_table(taps):
    """(1024, taps * taps) int32 in 1/32768, by fraction 32 * y + x; each row sums to 32768.

    Args:
        taps: 2 bilinear, 4 cubic, 8 Lanczos.
    """
    lines = np.empty((_FRACTIONS, taps), np.float32)
    if taps == 2:
        t = np.arange(_FRACTIONS, dtype=np.float32) / np.float32(_FRACTIONS)
        lines[:, 0], lines[:, 1] = np.float32(1) - t, t
    else:
        _WEIGHT_LINES[taps](lines.ctypes.data)
    real = lines[:, None, :, None] * lines[None, :, None, :] * np.float32(32768)
    limit = 32768 if taps == 2 else 32767  # OpenCV cuts one bilinear weight, to no effect
    table = np.clip(np.rint(real), -32768, limit).astype(np.int32)
    middle = taps // 2
    for weights in table.reshape(-1, taps, taps) if taps > 2 else ():
        surplus = int(weights.sum()) - 32768
        if surplus:
            core = weights[middle : middle + 2, middle : middle + 2]
            place = core.argmax() if surplus < 0 else core.argmin()
            core[np.unravel_index(place, core.shape)] -= surplus
    return np.ascontiguousarray(table.reshape(_FRACTIONS * _FRACTIONS, taps * taps))


@device_function(_DOUBLE(_DOUBLE))
def _whole(place):
    return min(max(np.rint(place), -_EXACT), _EXACT)


@device_function(
    types.void(DOUBLES, _LONG, _LONG, DOUBLES, DOUBLES),
    types.void(DOUBLES, _LONG, _LONG, LONGS, LONGS),
)
def column_places(matrix, first, count, xs, ys):
    """What each column of the canvas adds to the place that is read, in 1/1024 pixels.

    Args:
        matrix: (6,) float64, canvas (x, y, 1) to source x and y.
        first: First column wanted.
        count: Columns wanted.
        xs: (count,) float64 or int64 whole numbers, overwritten.
        ys: (count,) float64 or int64, overwritten.
    """
    for k in range(count):
        xs[k] = _whole(matrix[0] * (first + k) * 1024)
        ys[k] = _whole(matrix[3] * (first + k) * 1024)


@device_function(types.UniTuple(_DOUBLE, 2)(DOUBLES, _LONG))
def row_place(matrix, y):
    """What a row of the canvas adds to the place that is read: float64 whole numbers, x and y."""
    x = _whole((matrix[1] * y + matrix[2]) * 1024)
    return x, _whole((matrix[4] * y + matrix[5]) * 1024)


@device_function(types.void(DOUBLES, _LONG, _INT, DOUBLES, DOUBLES, INTS, INTS))
def line_places(matrix, y, rounding, column_xs, column_ys, xs, ys):
    """Where one row of the canvas is read, in 1/1024 pixels.

    Args:
        matrix: (6,) float64, canvas (x, y, 1) to source x and y.
        y: Row of the canvas.
        rounding: Added to each place, in 1/1024.
        column_xs: (count,) float64 of `column_places`.
        column_ys: (count,) float64.
        xs: (count,) int32, overwritten.
        ys: (count,) int32, overwritten.
    """
    # Sums of whole numbers, exact in double precision. What lies too far out for 32 bits stays
    # outside: it must not come round to a place in the picture, maybe one that is not in memory.
    row_x, row_y = row_place(matrix, y)
    x0, y0 = row_x + rounding, row_y + rounding
    for k in range(len(xs)):
        xs[k] = np.int32(min(max(x0 + column_xs[k], -_FAR), _FAR))
        ys[k] = np.int32(min(max(y0 + column_ys[k], -_FAR), _FAR))


@device_function(_INT(BYTES, *[_LONG] * 8))
def tap(image, y, x, c, height, width, pitch, channels, fill):
    """Channel c at a place of the source, or what lies outside of it."""
    if y < 0 or y >= height or x < 0 or x >= width:
        return np.int32(fill) if c < 3 else np.int32(0)
    return np.int32(image[y * pitch + x * channels + c])


@device_function(_ROW)
def warp_nearest(image, height, width, pitch, channels, fill, xs, ys, count, out):
    """One row, each pixel that of the nearest place; arguments as `warp_row`."""
    for k in range(count):
        x, y = xs[k] >> 10, ys[k] >> 10
        to = np.uint32(channels * k)
        if x >= 0 and y >= 0 and x < width and y < height:
            at = _U64(y * pitch + x * channels)
            if channels == 3:
                out[to] = image[at]
                out[to + np.uint32(1)] = image[at + _U64(1)]
                out[to + np.uint32(2)] = image[at + _U64(2)]
            else:
                for c in range(channels):
                    out[to + np.uint32(c)] = image[at + _U64(c)]
        else:
            for c in range(channels):
                out[to + np.uint32(c)] = np.uint8(fill) if c < 3 else np.uint8(0)


@device_function(_ROW)
def warp_linear(image, height, width, pitch, channels, fill, xs, ys, count, out):
    """One row by bilinear interpolation; arguments as `warp_row`."""
    for k in range(count):
        fx, fy = warp_fraction(xs[k]), warp_fraction(ys[k])
        x, y = xs[k] >> 10, ys[k] >> 10
        if x >= 0 and y >= 0 and x + 1 < width and y + 1 < height:
            p, beside = _U64(y * pitch + x * channels), _U64(channels)
            q = p + _U64(pitch)
            for c in range(channels):
                out[channels * k + c] = warp_linear_level(
                    image[p], image[p + beside], image[q], image[q + beside], fx, fy
                )
                p, q = p + _U64(1), q + _U64(1)
        else:
            for c in range(channels):
                a = tap(image, y, x, c, height, width, pitch, channels, fill)
                b = tap(image, y, x + 1, c, height, width, pitch, channels, fill)
                d = tap(image, y + 1, x, c, height, width, pitch, channels, fill)
                e = tap(image, y + 1, x + 1, c, height, width, pitch, channels, fill)
                out[channels * k + c] = warp_linear_level(a, b, d, e, fx, fy)


@device_function(types.void(_LONG, INTS, BYTES, *[_LONG] * 5, INTS, INTS, _LONG, BYTES))
def warp_row(taps, table, image, height, width, pitch, channels, fill, xs, ys, count, out):
    """One row by cubic or Lanczos interpolation.

    Args:
        taps: 4 or 8.
        table: (1024 * taps * taps,) int32 of `weight_table`.
        image: Source bytes, from its pixel (0, 0) on.
        height: Height of the source, in pixels.
        width: Width of the source, in pixels.
        pitch: Bytes between the rows of the source.
        channels: 1, 3 or 4.
        fill: Value of the first three channels outside the source; the fourth is 0 there.
        xs: (count,) int32 of `line_places`.
        ys: (count,) int32.
        count: Pixels of the row.
        out: (count * channels,) uint8, overwritten.
    """
    before = taps // 2 - 1
    size = taps * taps
    for k in range(count):
        fraction = warp_fraction(ys[k]) * 32 + warp_fraction(xs[k])
        weights = table[fraction * size : (fraction + 1) * size]
        x, y = (xs[k] >> 10) - before, (ys[k] >> 10) - before
        inside = x >= 0 and y >= 0 and x + taps <= width and y + taps <= height
        if inside and channels == 3:
            red, green, blue = np.int32(0), np.int32(0), np.int32(0)
            for j in range(taps):
                p = _U64((y + j) * pitch + x * 3)
                for i in range(taps):
                    weight = weights[_U32(j * taps + i)]
                    red += np.int32(image[p]) * weight
                    green += np.int32(image[p + _U64(1)]) * weight
                    blue += np.int32(image[p + _U64(2)]) * weight
                    p += _U64(3)
            out[3 * k], out[3 * k + 1] = warp_level(red), warp_level(green)
            out[3 * k + 2] = warp_level(blue)
            continue
        for c in range(channels):
            total = np.int32(0)
            for j in range(taps):
                for i in range(taps):
                    value = tap(image, y + j, x + i, c, height, width, pitch, channels, fill)
                    total += value * weights[j * taps + i]
            out[channels * k + c] = warp_level(total)


@device_function(types.void(BYTES, *[_LONG] * 8, BYTES))
def border_row(image, height, width, pitch, channels, fill, y, first, count, out):
    """One row of a picture with a constant border; `y` and `first` count from its own corner."""
    for k in range(count):
        for c in range(channels):
            out[channels * k + c] = tap(
                image, y, first + k, c, height, width, pitch, channels, fill
            )  # fmt: skip


def _warp_routine(warp, rounding):
    """The routine of a kind of warp.

    Args:
        warp: `warp(step, picture, xs, ys, count, out)` makes a row of pixels.
        rounding: Added to each place, in 1/1024 pixels.
    """

    def warp_pixels(at, channels, to, pitch, tables):
        """Write the window of a STEP row of a warp; arguments as `pixel_routine` says."""
        step = array_at(at, 1, STEP)[0]
        out = array_at(to, step.rows * pitch, np.uint8)
        cols, matrix = np.int64(step.cols), array_at(step.matrix, 6, np.float64)
        column_xs, free = cut(tables, cols, np.float64)
        column_ys, free = cut(free, cols, np.float64)
        xs, free = cut(free, cols, np.int32)
        ys, free = cut(free, cols, np.int32)
        column_places(matrix, step.x, cols, column_xs, column_ys)
        picture = _picture(step, channels)
        for y in range(step.rows):
            row = out[y * pitch : y * pitch + cols * channels]
            line_places(matrix, step.y + y, np.int32(rounding), column_xs, column_ys, xs, ys)
            warp(step, picture, xs, ys, cols, row)

    return pixel_routine(warp_pixels, warp.__name__)


@device_function(_PICTURE(STEP_ROW, _LONG))
def _picture(step, channels):
    """What the source of a STEP row is, as `warp_row` takes it from `image` to `fill`."""
    image = array_at(step.src, 1, np.uint8)  # longer: places are checked one by one
    return image, step.src_height, step.src_width, step.src_pitch, channels, step.fill


@device_function(_WARP)
def _nearest(step, picture, xs, ys, count, out):
    warp_nearest(*picture, xs, ys, count, out)


@device_function(_WARP)
def _linear(step, picture, xs, ys, count, out):
    warp_linear(*picture, xs, ys, count, out)


@device_function(_WARP)
def _smooth(step, picture, xs, ys, count, out):
    taps = np.int64(TAPS[step.kind])
    table = array_at(step.weights, _FRACTIONS * _FRACTIONS * taps * taps, np.int32)
    warp_row(taps, table, *picture, xs, ys, count, out)


nearest_warp_pixels = _warp_routine(_nearest, 512)
"""Writes the window of a STEP row of kind WARP_NEAREST; see `pixel_routine`."""
linear_warp_pixels = _warp_routine(_linear, 16)
"""Writes the window of a STEP row of kind WARP_LINEAR; see `pixel_routine`."""
smooth_warp_pixels = _warp_routine(_smooth, 16)
"""Writes the window of a STEP row of kind WARP_CUBIC or WARP_LANCZOS; see `pixel_routine`."""


@pixel_routine
def border_pixels(at, channels, to, pitch, tables):
    """Write the window of a STEP row of kind BORDER; arguments as `pixel_routine` says."""
    step = array_at(at, 1, STEP)[0]
    out = array_at(to, step.rows * pitch, np.uint8)
    size, first, picture = step.cols * channels, step.x - step.margin, _picture(step, channels)
    for y in range(step.rows):
        row = out[y * pitch : y * pitch + size]
        border_row(*picture, step.y + y - step.margin, first, step.cols, row)
