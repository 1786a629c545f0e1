"""Resizes that blend many rows of the source, on a CUDA device: cubic, Lanczos and area average.

A thread makes a strip of one column of the result, from top to bottom. Each row of the source that
it comes to is resized along x once and kept in registers while rows of the result still read it;
these are then sums along y alone. Sums have the order of the CPU's where that matters, in float32.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import cuda, njit, types

from gpuio.kernels.arithmetic import (
    area_term,
    cubic_term,
    cubic_weight,
    fixed_level,
    fixed_term,
    in_cubic_vector,
    nearest,
    saturate,
)
from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.device_output import BLOCK, NBYTES, window
from gpuio.kernels.device_pixels import (
    FOUR_LEVELS,
    field_offsets,
    load_pixel,
    pixel_address,
)
from gpuio.kernels.device_target import FORM, load_target, write_pixel
from gpuio.kernels.native import device_function, load32, load64, load_float
from gpuio.kernels.steps import AREA_EXTRA, STEP, StepKind

_F32, _I32, _I64, _U32, _U64 = np.float32, np.int32, np.int64, np.uint32, np.uint64
_INT, _LONG, _FLOAT, _ADDRESS = types.int32, types.int64, types.float32, types.uint64
_FOUR_REALS = types.UniTuple(types.float32, 4)
_THREE_REALS = types.UniTuple(types.float32, 3)
_STEP_BYTES, _WORD = STEP.itemsize, np.uint64(4)
_STRIP = 16  # pixels of a thread
STRIPS = (StepKind.CUBIC, StepKind.LANCZOS, StepKind.AREA)
"""The kinds that are made so."""

_SRC, _SRC_PITCH, _TAPS, _FILL, _X, _ROWS, _COLS = field_offsets(
    STEP, "src src_pitch taps fill x rows cols"
)
_SRC_HEIGHT, _SRC_WIDTH, _DST_HEIGHT, _DST_WIDTH = field_offsets(
    STEP, "src_height src_width dst_height dst_width"
)


@njit(inline="always")
def _entry(table, count, k, place):
    """The address of tap `k` of a position in a table for `count` positions."""
    return table + _WORD * _U64(_U32(_I32(k * count) + place))


@device_function(FOUR_LEVELS(_ADDRESS, _INT, _INT, _INT))
def _four(table, count, first, place):
    """Four int32: the entries of taps `first` to `first + 3` of a position."""
    return (
        load32(_entry(table, count, first, place)),
        load32(_entry(table, count, first + 1, place)),
        load32(_entry(table, count, first + 2, place)),
        load32(_entry(table, count, first + 3, place)),
    )


@njit(inline="always")
def _fixed_sum(a, b, c, d, weights):
    """Four int32 by four weights in 1/2048."""
    total = _I32(fixed_term(a, weights[0]) + fixed_term(b, weights[1]))
    return _I32(total + _I32(fixed_term(c, weights[2]) + fixed_term(d, weights[3])))


@device_function(FOUR_LEVELS(_ADDRESS, FOUR_LEVELS, FOUR_LEVELS, _INT))
def _across(row, places, weights, channels):
    """Four pixels of a source row, by their bytes from its start, to int32 sums in 1/2048."""
    a = load_pixel(row + _U64(places[0]), channels)
    b = load_pixel(row + _U64(places[1]), channels)
    c = load_pixel(row + _U64(places[2]), channels)
    d = load_pixel(row + _U64(places[3]), channels)
    return (
        _fixed_sum(a[0], b[0], c[0], d[0], weights),
        _fixed_sum(a[1], b[1], c[1], d[1], weights),
        _fixed_sum(a[2], b[2], c[2], d[2], weights),
        _fixed_sum(a[3], b[3], c[3], d[3], weights),
    )


@device_function(_INT(_ADDRESS, _INT, _INT, _INT))
def _first_row(lines, rows, taps, y):
    """The source row of the first tap of row `y`, before it was cut to the picture.

    The middle ones are cut where the place is above the first row alone.
    """
    middle = taps // 2
    here = load32(_entry(lines, rows, middle - 1, y))
    above = load32(_entry(lines, rows, middle, y)) == 0
    return _I32(here - (middle - 1) - (1 if above else 0))


@device_function(_FOUR_REALS(FOUR_LEVELS))
def _reals(sums):
    """Sums along x with the taps of CUBIC as float32, which has all of their bits."""
    return _F32(sums[0]), _F32(sums[1]), _F32(sums[2]), _F32(sums[3])


@device_function(_INT(*[_FLOAT] * 4, FOUR_LEVELS, _FOUR_REALS, types.boolean))
def _cubic_level(a, b, c, d, weights, reals, in_vector):
    """Four sums along x into a level: in float32, or in integers where OpenCV's tail has them."""
    if in_vector:
        real = cubic_term(a, reals[0]) + cubic_term(b, reals[1])
        real = real + cubic_term(c, reals[2])
        real = real + cubic_term(d, reals[3])
        return saturate(_I32(nearest(real)))
    return fixed_level(_fixed_sum(_I32(a), _I32(b), _I32(c), _I32(d), weights))


@device_function(types.void(_ADDRESS, *[_INT] * 3, FORM))
def _cubic_strip(step, x, first, last, form):
    """Rows `first` to `last` of column `x` of a cubic resize."""
    rows, cols, channels = load32(step + _ROWS), load32(step + _COLS), form[0]
    src, pitch = load64(step + _SRC), _I64(load64(step + _SRC_PITCH))
    height, taps = load32(step + _SRC_HEIGHT), load64(step + _TAPS)
    places, weights = _four(taps, cols, 0, x), _four(taps, cols, 4, x)
    lines = _entry(taps, cols, 8, 0)
    target = load_target(step, form[3])
    whole, in_order = load32(step + _DST_WIDTH) * channels, load32(step + _FILL) == 1
    at = (load32(step + _X) + x) * channels
    p = in_cubic_vector(at, whole, channels, in_order)
    q = in_cubic_vector(at + 1, whole, channels, in_order)
    r = in_cubic_vector(at + 2, whole, channels, in_order)
    s = in_cubic_vector(at + 3, whole, channels, in_order)
    a = b = c = d = (_F32(0), _F32(0), _F32(0), _F32(0))
    line = _I32(-4)
    for y in range(first, last):
        end = _I32(_first_row(lines, rows, 4, y) + 4)
        line = max(line, _I32(end - 4))
        while line < end:
            at_row = pixel_address(src, min(max(line, _I32(0)), _I32(height - 1)), pitch, 0)
            a, b, c, d = b, c, d, _reals(_across(at_row, places, weights, channels))
            line = _I32(line + 1)
        down = _four(lines, rows, 4, y)
        reals = (
            cubic_weight(down[0]),
            cubic_weight(down[1]),
            cubic_weight(down[2]),
            cubic_weight(down[3]),
        )
        pixel = (
            _cubic_level(a[0], b[0], c[0], d[0], down, reals, p),
            _cubic_level(a[1], b[1], c[1], d[1], down, reals, q),
            _cubic_level(a[2], b[2], c[2], d[2], down, reals, r),
            _cubic_level(a[3], b[3], c[3], d[3], down, reals, s),
        )
        write_pixel(target, pixel, y, x, rows, cols, form)


@device_function(_INT(*[_INT] * 8, FOUR_LEVELS, FOUR_LEVELS))
def _lanczos_level(a, b, c, d, e, f, g, h, upper, lower):
    """Eight sums along x into a level."""
    return fixed_level(_I32(_fixed_sum(a, b, c, d, upper) + _fixed_sum(e, f, g, h, lower)))


@device_function(types.void(_ADDRESS, *[_INT] * 3, FORM))
def _lanczos_strip(step, x, first, last, form):
    """Rows `first` to `last` of column `x` of a Lanczos resize."""
    rows, cols, channels = load32(step + _ROWS), load32(step + _COLS), form[0]
    src, pitch = load64(step + _SRC), _I64(load64(step + _SRC_PITCH))
    height, taps = load32(step + _SRC_HEIGHT), load64(step + _TAPS)
    left, right = _four(taps, cols, 0, x), _four(taps, cols, 4, x)
    left_weights, right_weights = _four(taps, cols, 8, x), _four(taps, cols, 12, x)
    lines = _entry(taps, cols, 16, 0)
    target = load_target(step, form[3])
    a = b = c = d = e = f = g = h = (_I32(0), _I32(0), _I32(0), _I32(0))
    line = _I32(-8)
    for y in range(first, last):
        end = _I32(_first_row(lines, rows, 8, y) + 8)
        line = max(line, _I32(end - 8))
        while line < end:
            at_row = pixel_address(src, min(max(line, _I32(0)), _I32(height - 1)), pitch, 0)
            i = _across(at_row, left, left_weights, channels)
            j = _across(at_row, right, right_weights, channels)
            a, b, c, d, e, f, g = b, c, d, e, f, g, h
            h = (_I32(i[0] + j[0]), _I32(i[1] + j[1]), _I32(i[2] + j[2]), _I32(i[3] + j[3]))
            line = _I32(line + 1)
        upper, lower = _four(lines, rows, 8, y), _four(lines, rows, 12, y)
        pixel = (
            _lanczos_level(a[0], b[0], c[0], d[0], e[0], f[0], g[0], h[0], upper, lower),
            _lanczos_level(a[1], b[1], c[1], d[1], e[1], f[1], g[1], h[1], upper, lower),
            _lanczos_level(a[2], b[2], c[2], d[2], e[2], f[2], g[2], h[2], upper, lower),
            _lanczos_level(a[3], b[3], c[3], d[3], e[3], f[3], g[3], h[3], upper, lower),
        )
        write_pixel(target, pixel, y, x, rows, cols, form)


@njit(inline="always")
def _area_taps(before, after):
    """Taps along an axis in the tables of an AREA row."""
    return _I32(_I32(_U32(before) // _U32(after)) + AREA_EXTRA)


@device_function(_INT(_ADDRESS, _INT, _INT))
def _tap_count(shares, cols, taps):
    """How many of `taps` weights of a column are used; the first unused one is 0."""
    count = _I32(1)
    while count < taps and load_float(_entry(shares, cols, count, 0)) != _F32(0):
        count = _I32(count + 1)
    return count


@device_function(_FOUR_REALS(_FOUR_REALS, _ADDRESS, _FLOAT, _INT))
def _area_added(sums, at, share, channels):
    """Four sums, and what the pixel at an address adds to them."""
    pixel = load_pixel(at, channels)
    return (
        sums[0] + area_term(pixel[0], share),
        sums[1] + area_term(pixel[1], share),
        sums[2] + area_term(pixel[2], share),
        sums[3] + area_term(pixel[3], share),
    )


@device_function(_FOUR_REALS(_ADDRESS, _THREE_REALS, _INT, _INT))
def _area_across(at, shares, count, channels):
    """Pixels of a source row to sums of an area average.

    Args:
        at: Address of the first pixel; the others follow it.
        shares: float32, the weights of the first pixel, of those between, and of the last one.
        count: Pixels.
        channels: 1, 3 or 4.
    """
    sums = (_F32(0), _F32(0), _F32(0), _F32(0))
    sums = _area_added(sums, at, shares[0], channels)
    for _ in range(2, count):
        at += _U64(channels)
        sums = _area_added(sums, at, shares[1], channels)
    if count > 1:
        sums = _area_added(sums, at + _U64(channels), shares[2], channels)
    return sums


@device_function(types.void(_ADDRESS, *[_INT] * 3, FORM))
def _area_strip(step, x, first, last, form):
    """Rows `first` to `last` of column `x` of an area average over shrinking axes."""
    rows, cols, channels = load32(step + _ROWS), load32(step + _COLS), form[0]
    src, pitch, taps = load64(step + _SRC), _I64(load64(step + _SRC_PITCH)), load64(step + _TAPS)
    row_taps = _area_taps(load32(step + _SRC_HEIGHT), load32(step + _DST_HEIGHT))
    column_taps = _area_taps(load32(step + _SRC_WIDTH), load32(step + _DST_WIDTH))
    shares = _entry(taps, cols, column_taps, x)
    lines = _entry(taps, cols, 2 * column_taps, 0)
    start, count = load32(_entry(taps, cols, 0, x)), _tap_count(shares, cols, column_taps)
    ends = (
        load_float(shares),
        load_float(_entry(shares, cols, 1, 0)),
        load_float(_entry(shares, cols, count - 1, 0)),
    )
    target = load_target(step, form[3])
    sums, held = (_F32(0), _F32(0), _F32(0), _F32(0)), _I32(-1)
    for y in range(first, last):
        a, b, c, d = _F32(0), _F32(0), _F32(0), _F32(0)
        for k in range(row_taps):
            share = load_float(_entry(lines, rows, row_taps + k, y))
            if share == _F32(0):
                break
            line = load32(_entry(lines, rows, k, y))
            if line != held:
                at = pixel_address(src, line, pitch, start)
                sums, held = _area_across(at, ends, count, channels), line
            a, b = a + area_term(sums[0], share), b + area_term(sums[1], share)
            c, d = c + area_term(sums[2], share), d + area_term(sums[3], share)
        pixel = (
            saturate(_I32(nearest(a))),
            saturate(_I32(nearest(b))),
            saturate(_I32(nearest(c))),
            saturate(_I32(nearest(d))),
        )
        write_pixel(target, pixel, y, x, rows, cols, form)


@cache
def strips(kind, channels, output, layout, mean_image):
    """As `window` for a kind of STRIPS; a thread makes up to 16 pixels of a column."""
    nbytes = NBYTES[output]
    kind, output = int(kind), int(output)  # a closure of plain numbers is found on disk again

    def body(table):
        x = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        first = _I32((cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y) * _STRIP)
        step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
        rows, cols = load32(step + _ROWS), load32(step + _COLS)
        if first < rows and x < cols:
            last = min(_I32(first + _STRIP), rows)
            form = channels, output, nbytes, layout, mean_image
            if kind == StepKind.CUBIC:
                _cubic_strip(step, x, first, last, form)
            elif kind == StepKind.LANCZOS:
                _lanczos_strip(step, x, first, last, form)
            else:
                _area_strip(step, x, first, last, form)

    key, pixels = (kind, channels, output, layout, mean_image), (1, _STRIP)
    return DeviceKernel("strips", body, types.void(_ADDRESS), BLOCK, pixels=pixels, key=key)


def window_kernel(kind, channels, output, layout, mean_image):
    """The kernel of `window` or, for a kind of STRIPS, that of `strips`."""
    make = strips if kind in STRIPS else window
    return make(kind, channels, output, layout, mean_image)
