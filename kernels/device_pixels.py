"""What a thread on a CUDA device computes for one pixel of a step, with the bits of the CPU.

The functions get the address of a STEP row in device memory; all of its addresses are those of the
device. They combine the arithmetic of arithmetic.py as the CPU's loops do. Devices have no quick
double precision: where rows and columns read and with which weights is computed once for each, by
device_taps.py or by `tabulate` on the host, whose tables lie at the row's `taps`.
"""

from __future__ import annotations

import numpy as np
from numba import njit, types

from gpuio.kernels.arithmetic import (
    FAR,
    block_level,
    block_reciprocal,
    level,
    linear_across,
    linear_down,
    mirrored,
    warp_fraction,
    warp_level,
    warp_linear_level,
)
from gpuio.kernels.native import device_function, load8, load32, load64, load_float, mul_rn, store8
from gpuio.kernels.steps import STEP, StepKind

_F32, _I32, _I64 = np.float32, np.int32, np.int64
_U32, _U64 = np.uint32, np.uint64
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)
_WORD = np.uint64(4)
_INT, _LONG, _ADDRESS = types.int32, types.int64, types.uint64
FOUR_LEVELS = types.UniTuple(types.int32, 4)


def field_offsets(dtype: np.dtype[np.void], names: str) -> list[np.uint64]:
    """Where fields of a row begin, in bytes."""
    return [np.uint64(dtype.fields[name][1]) for name in names.split()]  # type: ignore[index]


_SRC, _SRC_PITCH, _WEIGHTS, _TAPS, _FILL, _SRC_HEIGHT, _SRC_WIDTH = field_offsets(
    STEP, "src src_pitch weights taps fill src_height src_width"
)
_DST_HEIGHT, _DST_WIDTH, _Y, _X, _MARGIN = field_offsets(STEP, "dst_height dst_width y x margin")


@njit(inline="always")
def pixel_address(address, row, pitch, column):
    """The address `row` rows of `pitch` bytes and `column` bytes behind another."""
    return address + _U64(_I64(row) * pitch + _I64(column))


@device_function(FOUR_LEVELS(_ADDRESS, _INT))
def load_pixel(at, channels):
    """Four int32: the pixel at an address, 0 in place of channels that it does not have."""
    first, second, third, fourth = _I32(load8(at)), _I32(0), _I32(0), _I32(0)
    if channels != 1:
        second, third = _I32(load8(at + _ONE)), _I32(load8(at + _TWO))
        if channels == 4:
            fourth = _I32(load8(at + _THREE))
    return first, second, third, fourth


@njit(inline="always")
def _column(at, count, k, x):
    """The address of tap `k` of position `x` in a table for `count` positions."""
    return at + _WORD * _U64(_U32(k * count + x))  # one instruction where it stays in 32 bits


@device_function(FOUR_LEVELS(_ADDRESS, *[_INT] * 5))
def _linear_line(at, left, right, u, v, channels):
    """A row along x: what `linear_across` makes of the pixels at two places, in four values."""
    a = load_pixel(at + _U64(_U32(left)), channels)
    b = load_pixel(at + _U64(_U32(right)), channels)
    return (
        linear_across(a[0], b[0], u, v),
        linear_across(a[1], b[1], u, v),
        linear_across(a[2], b[2], u, v),
        linear_across(a[3], b[3], u, v),
    )


@device_function(FOUR_LEVELS(_ADDRESS, _LONG, _ADDRESS, *[_INT] * 5))
def _linear(src, pitch, taps, y, x, rows, cols, channels):
    """A pixel of a bilinear resize, as four int32."""
    left, right = load32(_column(taps, cols, 0, x)), load32(_column(taps, cols, 1, x))
    u, v = load32(_column(taps, cols, 2, x)), load32(_column(taps, cols, 3, x))
    down = _column(taps, cols, 4, 0)
    upper, lower = load32(_column(down, rows, 0, y)), load32(_column(down, rows, 1, y))
    s, t = load32(_column(down, rows, 2, y)), load32(_column(down, rows, 3, y))
    a = _linear_line(pixel_address(src, upper, pitch, 0), left, right, u, v, channels)
    b = _linear_line(pixel_address(src, lower, pitch, 0), left, right, u, v, channels)
    return (
        _I32(linear_down(a[0], b[0], s, t)),
        _I32(linear_down(a[1], b[1], s, t)),
        _I32(linear_down(a[2], b[2], s, t)),
        _I32(linear_down(a[3], b[3], s, t)),
    )


@device_function(FOUR_LEVELS(_ADDRESS, _ADDRESS, _LONG, *[_INT] * 3))
def _blocks(step, src, pitch, y, x, channels):
    """A pixel of an area average over whole blocks."""
    height = _I32(np.uint32(load32(step + _SRC_HEIGHT)) // np.uint32(load32(step + _DST_HEIGHT)))
    width = _I32(np.uint32(load32(step + _SRC_WIDTH)) // np.uint32(load32(step + _DST_WIDTH)))
    a, b, c, d = _I64(0), _I64(0), _I64(0), _I64(0)
    for j in range(height):
        for k in range(width):
            at = pixel_address(src, y * height + j, pitch, (x * width + k) * channels)
            pixel = load_pixel(at, channels)
            a, b, c, d = a + pixel[0], b + pixel[1], c + pixel[2], d + pixel[3]
    reciprocal = block_reciprocal(height, width)
    return (
        block_level(a, height, width, reciprocal),
        block_level(b, height, width, reciprocal),
        block_level(c, height, width, reciprocal),
        block_level(d, height, width, reciprocal),
    )


@device_function(FOUR_LEVELS(_ADDRESS, *[_INT] * 4, _LONG, _INT, _INT))
def _tap(src, y, x, height, width, pitch, channels, fill):
    """Four values: of a pixel of the source, or of what lies outside of it."""
    first, second, third, fourth = fill, fill, fill, _I32(0)
    if y >= 0 and x >= 0 and y < height and x < width:
        first, second, third, fourth = load_pixel(
            pixel_address(src, y, pitch, x * channels), channels
        )
    return first, second, third, fourth


@device_function(_INT(_ADDRESS, _LONG, _LONG, _INT))
def _warp_place(taps, line, column, rounding):
    """The place that a row and a column add up to, in 1/1024 pixels.

    What lies too far out for 32 bits stays outside.
    """
    total = _I64(load64(taps + _U64(8 * line))) + _I64(load64(taps + _U64(8 * column))) + rounding
    return _I32(min(max(total, -FAR), FAR))


@device_function(FOUR_LEVELS(_ADDRESS, _LONG, *[_INT] * 6))
def _warp_linear(src, pitch, height, width, xs, ys, channels, fill):
    """A pixel of a bilinear warp, at a place in 1/1024 pixels."""
    x, y, fx, fy = xs >> 10, ys >> 10, warp_fraction(xs), warp_fraction(ys)
    a = _tap(src, y, x, height, width, pitch, channels, fill)
    b = _tap(src, y, x + 1, height, width, pitch, channels, fill)
    c = _tap(src, y + 1, x, height, width, pitch, channels, fill)
    d = _tap(src, y + 1, x + 1, height, width, pitch, channels, fill)
    return (
        _I32(warp_linear_level(a[0], b[0], c[0], d[0], fx, fy)),
        _I32(warp_linear_level(a[1], b[1], c[1], d[1], fx, fy)),
        _I32(warp_linear_level(a[2], b[2], c[2], d[2], fx, fy)),
        _I32(warp_linear_level(a[3], b[3], c[3], d[3], fx, fy)),
    )


@device_function(FOUR_LEVELS(_ADDRESS, _INT, _ADDRESS, _LONG, *[_INT] * 6))
def _warp_smooth(step, count, src, pitch, height, width, xs, ys, channels, fill):
    """A pixel of a warp with `count` taps along each axis."""
    a, b, c, d = _I32(0), _I32(0), _I32(0), _I32(0)
    fraction = warp_fraction(ys) * 32 + warp_fraction(xs)
    weights = load64(step + _WEIGHTS) + _WORD * _U64(fraction * count * count)
    first = (xs >> 10) - (count // 2 - 1)
    top = (ys >> 10) - (count // 2 - 1)
    for j in range(count):
        for i in range(count):
            weight = load32(weights + _WORD * _U64(j * count + i))
            pixel = _tap(src, top + j, first + i, height, width, pitch, channels, fill)
            a, b = _I32(a + pixel[0] * weight), _I32(b + pixel[1] * weight)
            c, d = _I32(c + pixel[2] * weight), _I32(d + pixel[3] * weight)
    return warp_level(a), warp_level(b), warp_level(c), warp_level(d)


@device_function(FOUR_LEVELS(_ADDRESS, _INT, _ADDRESS, _LONG, _ADDRESS, *[_INT] * 5))
def _warped(step, kind, src, pitch, taps, y, x, rows, cols, channels):
    """A pixel of a warp or border."""
    height, width = load32(step + _SRC_HEIGHT), load32(step + _SRC_WIDTH)
    fill = load32(step + _FILL)
    if kind == StepKind.BORDER:
        margin = load32(step + _MARGIN)
        y, x = load32(step + _Y) + y - margin, load32(step + _X) + x - margin
        return _tap(src, y, x, height, width, pitch, channels, fill)
    rounding = 512 if kind == StepKind.WARP_NEAREST else 16
    xs = _warp_place(taps, _I64(2) * cols + y, x, rounding)
    ys = _warp_place(taps, _I64(2) * cols + rows + y, _I64(cols) + x, rounding)
    if kind == StepKind.WARP_NEAREST:
        return _tap(src, ys >> 10, xs >> 10, height, width, pitch, channels, fill)
    if kind == StepKind.WARP_LINEAR:
        return _warp_linear(src, pitch, height, width, xs, ys, channels, fill)
    count = 4 if kind == StepKind.WARP_CUBIC else 8
    return _warp_smooth(step, count, src, pitch, height, width, xs, ys, channels, fill)


@device_function(FOUR_LEVELS(_ADDRESS, _ADDRESS, _LONG, *[_INT] * 3))
def _blurred(step, src, pitch, y, x, channels):
    """Pixel (y, x) of a blur: the sums along x of all rows, then the sum along y."""
    a, b, c, d = _F32(0), _F32(0), _F32(0), _F32(0)
    radius, weights = load32(step + _MARGIN), load64(step + _WEIGHTS)
    height, width = load32(step + _SRC_HEIGHT), load32(step + _SRC_WIDTH)
    taps = 2 * radius + 1
    for j in range(taps):
        line = pixel_address(src, mirrored(_I32(y + j - radius), height), pitch, 0)
        e, f, g, h = _F32(0), _F32(0), _F32(0), _F32(0)
        for k in range(taps):
            weight = load_float(weights + _WORD * _U64(k))
            place = mirrored(_I32(x + k - radius), width)
            pixel = load_pixel(line + _U64(place * channels), channels)
            e, f = e + mul_rn(_F32(pixel[0]), weight), f + mul_rn(_F32(pixel[1]), weight)
            g, h = g + mul_rn(_F32(pixel[2]), weight), h + mul_rn(_F32(pixel[3]), weight)
        weight = load_float(weights + _WORD * _U64(taps + j))
        a, b = a + mul_rn(e, weight), b + mul_rn(f, weight)
        c, d = c + mul_rn(g, weight), d + mul_rn(h, weight)
    return level(a), level(b), level(c), level(d)


@device_function(FOUR_LEVELS(_ADDRESS, *[_INT] * 6))
def step_pixel(step, kind, y, x, rows, cols, channels):
    """Pixel (y, x) of the window of the STEP row at address `step`, as four int32.

    Args:
        step: Address of the row.
        kind: Its StepKind, none of STRIPS.
        y: Row in the window.
        x: Column in the window.
        rows: Rows of the window.
        cols: Columns of the window.
        channels: 1, 3 or 4.
    """
    src, pitch, taps = load64(step + _SRC), _I64(load64(step + _SRC_PITCH)), load64(step + _TAPS)
    if kind == StepKind.COPY:
        at = pixel_address(src, load32(step + _Y) + y, pitch, (load32(step + _X) + x) * channels)
        return load_pixel(at, channels)
    if kind == StepKind.LINEAR or kind == StepKind.AREA_LINEAR:
        return _linear(src, pitch, taps, y, x, rows, cols, channels)
    if kind == StepKind.BLUR:
        return _blurred(step, src, pitch, load32(step + _Y) + y, load32(step + _X) + x, channels)
    if kind >= StepKind.WARP_NEAREST:
        return _warped(step, kind, src, pitch, taps, y, x, rows, cols, channels)
    if kind == StepKind.NEAREST:
        line = load32(_column(_column(taps, cols, 2, 0), rows, 0, y))
        return load_pixel(
            pixel_address(src, line, pitch, load32(_column(taps, cols, 0, x))), channels
        )
    return _blocks(step, src, pitch, load32(step + _Y) + y, load32(step + _X) + x, channels)


@njit(inline="always")
def store_pixel(at, pixel, channels):
    """Write the first `channels` of four int32 as the pixel at an address."""
    store8(at, pixel[0])
    if channels != 1:
        store8(at + _ONE, pixel[1])
        store8(at + _TWO, pixel[2])
        if channels == 4:
            store8(at + _THREE, pixel[3])
