"""The passes on a CUDA device: one thread for a pixel of the result, the bits of the CPU.

The kernels take the table of kernels/resample.py in device memory, all of its addresses those of
the device, and do with arithmetic.py and color.py what its loops do. A device has no quick double
precision, so what is computed in it, where rows and columns read and with which weights, is
computed on the host by `tabulate` and lies at the rows' `taps`. `matrix` stays an address of the
host. One launch serves a batch; `grid` says of how many blocks.

Only backends of a device import this; it needs numba-cuda, but no driver until `compile_device`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import cuda, njit, types

from gpuio.kernels.arithmetic import (
    FAR,
    area_term,
    bfloat16_bits,
    block_level,
    block_reciprocal,
    cubic_term,
    cubic_weight,
    fixed_level,
    fixed_term,
    float16_bits,
    in_cubic_vector,
    level,
    linear_across,
    linear_down,
    mirrored,
    nearest,
    normalized,
    saturate,
    shifted,
    warp_fraction,
    warp_level,
    warp_linear_level,
)
from gpuio.kernels.color import gray_of, hls_moved, luma, mean_level, moved, scaled
from gpuio.kernels.native import (
    device_function,
    load8,
    load32,
    load64,
    load_float,
    mul_rn,
    store8,
    store16,
    store_float,
)
from gpuio.kernels.steps import AREA_EXTRA, COLOR_STEP, STEP, ColorKind, OutputType, StepKind

_F32, _I32, _I64, _U64 = np.float32, np.int32, np.int64, np.uint64
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)
_WORD = np.uint64(4)
_INT, _LONG, _ADDRESS = types.int32, types.int64, types.uint64
_FOUR, _THREE_INTS = types.UniTuple(types.int32, 4), types.UniTuple(types.int32, 3)
_STEP_BYTES, _COLOR_BYTES = STEP.itemsize, COLOR_STEP.itemsize
THREADS = 256
"""Threads in a block of COLOR."""

# A block of the others: a warp writes neighbours; small, as registers are many.
_PIXELS = (32, 4, 1)


def _places(dtype: np.dtype[Any], names: str) -> list[np.uint64]:
    return [np.uint64(dtype.fields[name][1]) for name in names.split()]  # type: ignore[index]


_SRC, _DST, _NORM, _MEAN_IMAGE, _WEIGHTS, _COLOR, _TAPS, _SRC_PITCH, _DST_PITCH = _places(
    STEP, "src dst norm mean_image weights color taps src_pitch dst_pitch"
)
_KIND, _MIRROR, _FILL, _SRC_HEIGHT, _SRC_WIDTH, _DST_HEIGHT, _DST_WIDTH = _places(
    STEP, "kind mirror fill src_height src_width dst_height dst_width"
)
_Y, _X, _ROWS, _COLS, _MARGIN, _COLOR_COUNT = _places(STEP, "y x rows cols margin color_count")
_COLOR_KIND, _A, _B, _C = _places(COLOR_STEP, "kind a b c")


@dataclass(frozen=True)
class DeviceKernel:
    """A kernel, and how it is launched.

    Attributes:
        name: For messages.
        body: What one thread does: a module-level function, so that its code is kept on disk.
        signature: Of `body`.
        block: Threads of a block, along x, y and z.
        synchronises: Whether the threads of a block wait for each other.
    """

    name: str
    body: Callable[..., None]
    signature: Any
    block: tuple[int, int, int]
    synchronises: bool = False


@njit(inline="always")
def _at(address, row, pitch, column):
    """The address `row` rows of `pitch` bytes and `column` bytes behind another."""
    return address + _U64(_I64(row) * pitch + _I64(column))


@device_function(_FOUR(_ADDRESS, _INT))
def _pixel(at, channels):
    """Four int32: the values of a pixel, 0 for those that it does not have."""
    first, second, third, fourth = _I32(load8(at)), _I32(0), _I32(0), _I32(0)
    if channels != 1:
        second, third = _I32(load8(at + _ONE)), _I32(load8(at + _TWO))
        if channels == 4:
            fourth = _I32(load8(at + _THREE))
    return first, second, third, fourth


@njit(inline="always")
def _column(at, count, k, x):
    """The address of tap `k` of position `x` in a table for `count` positions."""
    return at + _WORD * _U64(_I64(k) * count + x)


@device_function(_FOUR(_ADDRESS, *[_INT] * 5))
def _linear_line(at, left, right, u, v, channels):
    """A row along x: what `linear_across` makes of the pixels at two places, in four values."""
    a, b = _pixel(at + _U64(left), channels), _pixel(at + _U64(right), channels)
    return (
        linear_across(a[0], b[0], u, v),
        linear_across(a[1], b[1], u, v),
        linear_across(a[2], b[2], u, v),
        linear_across(a[3], b[3], u, v),
    )


@device_function(_FOUR(_ADDRESS, _LONG, _ADDRESS, *[_INT] * 5))
def _linear(src, pitch, taps, y, x, rows, cols, channels):
    left, right = load32(_column(taps, cols, 0, x)), load32(_column(taps, cols, 1, x))
    u, v = load32(_column(taps, cols, 2, x)), load32(_column(taps, cols, 3, x))
    down = _column(taps, cols, 4, 0)
    upper, lower = load32(_column(down, rows, 0, y)), load32(_column(down, rows, 1, y))
    s, t = load32(_column(down, rows, 2, y)), load32(_column(down, rows, 3, y))
    a = _linear_line(_at(src, upper, pitch, 0), left, right, u, v, channels)
    b = _linear_line(_at(src, lower, pitch, 0), left, right, u, v, channels)
    return (
        _I32(linear_down(a[0], b[0], s, t)),
        _I32(linear_down(a[1], b[1], s, t)),
        _I32(linear_down(a[2], b[2], s, t)),
        _I32(linear_down(a[3], b[3], s, t)),
    )


@device_function(_FOUR(_ADDRESS, _ADDRESS, *[_INT] * 4))
def _fixed_across(at, taps, count, cols, x, channels):
    """A row along x with `count` taps, in 1/2048, in four int32."""
    first, second, third, fourth = _I32(0), _I32(0), _I32(0), _I32(0)
    weights = _column(taps, cols, count, 0)
    for k in range(count):
        weight = load32(_column(weights, cols, k, x))
        pixel = _pixel(at + _U64(load32(_column(taps, cols, k, x))), channels)
        first = _I32(first + fixed_term(pixel[0], weight))
        second = _I32(second + fixed_term(pixel[1], weight))
        third = _I32(third + fixed_term(pixel[2], weight))
        fourth = _I32(fourth + fixed_term(pixel[3], weight))
    return first, second, third, fourth


@device_function(_INT(_INT, _INT, _INT, types.boolean, types.float32, _INT))
def _cubic_value(at, whole, channels, in_order, real, total):
    if in_cubic_vector(at, whole, channels, in_order):
        return saturate(_I32(nearest(real)))
    return fixed_level(total)


@device_function(_FOUR(_ADDRESS, _ADDRESS, _LONG, _ADDRESS, *[_INT] * 5))
def _cubic(step, src, pitch, taps, y, x, rows, cols, channels):
    """Both sums of `in_cubic_vector`, of which each value takes one."""
    a, b, c, d = _I32(0), _I32(0), _I32(0), _I32(0)
    e, f, g, h = _F32(0), _F32(0), _F32(0), _F32(0)
    down = _column(taps, cols, 8, 0)
    for j in range(4):
        weight = load32(_column(down, rows, 4 + j, y))
        real = cubic_weight(weight)
        at = _at(src, load32(_column(down, rows, j, y)), pitch, 0)
        line = _fixed_across(at, taps, 4, cols, x, channels)
        a, b = _I32(a + fixed_term(line[0], weight)), _I32(b + fixed_term(line[1], weight))
        c, d = _I32(c + fixed_term(line[2], weight)), _I32(d + fixed_term(line[3], weight))
        e, f = e + cubic_term(line[0], real), f + cubic_term(line[1], real)
        g, h = g + cubic_term(line[2], real), h + cubic_term(line[3], real)
    in_order = load32(step + _FILL) == 1
    whole = load32(step + _DST_WIDTH) * channels
    at = (load32(step + _X) + x) * channels
    return (
        _cubic_value(at, whole, channels, in_order, e, a),
        _cubic_value(at + 1, whole, channels, in_order, f, b),
        _cubic_value(at + 2, whole, channels, in_order, g, c),
        _cubic_value(at + 3, whole, channels, in_order, h, d),
    )


@device_function(_FOUR(_ADDRESS, _LONG, _ADDRESS, *[_INT] * 5))
def _lanczos(src, pitch, taps, y, x, rows, cols, channels):
    a, b, c, d = _I32(0), _I32(0), _I32(0), _I32(0)
    down = _column(taps, cols, 16, 0)
    for j in range(8):
        weight = load32(_column(down, rows, 8 + j, y))
        at = _at(src, load32(_column(down, rows, j, y)), pitch, 0)
        line = _fixed_across(at, taps, 8, cols, x, channels)
        a, b = _I32(a + fixed_term(line[0], weight)), _I32(b + fixed_term(line[1], weight))
        c, d = _I32(c + fixed_term(line[2], weight)), _I32(d + fixed_term(line[3], weight))
    return fixed_level(a), fixed_level(b), fixed_level(c), fixed_level(d)


@device_function(types.UniTuple(_INT, 2)(_ADDRESS))
def _area_taps(step):
    """Taps along y and x of an AREA row, as `tabulate` has them."""
    down = np.uint32(load32(step + _SRC_HEIGHT)) // np.uint32(load32(step + _DST_HEIGHT))
    across = np.uint32(load32(step + _SRC_WIDTH)) // np.uint32(load32(step + _DST_WIDTH))
    return _I32(down) + AREA_EXTRA, _I32(across) + AREA_EXTRA


@device_function(_FOUR(_ADDRESS, _ADDRESS, _LONG, _ADDRESS, *[_INT] * 5))
def _area(step, src, pitch, taps, y, x, rows, cols, channels):
    a, b, c, d = _F32(0), _F32(0), _F32(0), _F32(0)
    row_taps, column_taps = _area_taps(step)
    weights = _column(taps, cols, column_taps, 0)
    down = _column(weights, cols, column_taps, 0)
    for j in range(row_taps):
        beta = load_float(_column(down, rows, row_taps + j, y))
        if beta != _F32(0):
            at = _at(src, load32(_column(down, rows, j, y)), pitch, 0)
            e, f, g, h = _F32(0), _F32(0), _F32(0), _F32(0)
            for k in range(column_taps):
                weight = load_float(_column(weights, cols, k, x))
                pixel = _pixel(at + _U64(load32(_column(taps, cols, k, x))), channels)
                e, f = e + area_term(pixel[0], weight), f + area_term(pixel[1], weight)
                g, h = g + area_term(pixel[2], weight), h + area_term(pixel[3], weight)
            a, b = a + area_term(e, beta), b + area_term(f, beta)
            c, d = c + area_term(g, beta), d + area_term(h, beta)
    return (
        saturate(_I32(nearest(a))),
        saturate(_I32(nearest(b))),
        saturate(_I32(nearest(c))),
        saturate(_I32(nearest(d))),
    )


@device_function(_FOUR(_ADDRESS, _ADDRESS, _LONG, *[_INT] * 3))
def _blocks(step, src, pitch, y, x, channels):
    height = _I32(np.uint32(load32(step + _SRC_HEIGHT)) // np.uint32(load32(step + _DST_HEIGHT)))
    width = _I32(np.uint32(load32(step + _SRC_WIDTH)) // np.uint32(load32(step + _DST_WIDTH)))
    a, b, c, d = _I64(0), _I64(0), _I64(0), _I64(0)
    for j in range(height):
        for k in range(width):
            at = _at(src, y * height + j, pitch, (x * width + k) * channels)
            pixel = _pixel(at, channels)
            a, b, c, d = a + pixel[0], b + pixel[1], c + pixel[2], d + pixel[3]
    reciprocal = block_reciprocal(height, width)
    return (
        block_level(a, height, width, reciprocal),
        block_level(b, height, width, reciprocal),
        block_level(c, height, width, reciprocal),
        block_level(d, height, width, reciprocal),
    )


@device_function(_FOUR(_ADDRESS, *[_INT] * 4, _LONG, _INT, _INT))
def _tap(src, y, x, height, width, pitch, channels, fill):
    """Four values: of a pixel of the source, or of what lies outside of it."""
    first, second, third, fourth = fill, fill, fill, _I32(0)
    if y >= 0 and x >= 0 and y < height and x < width:
        first, second, third, fourth = _pixel(_at(src, y, pitch, x * channels), channels)
    return first, second, third, fourth


@device_function(_INT(_ADDRESS, _LONG, _LONG, _INT))
def _warp_place(taps, line, column, rounding):
    """The place that a row and a column add up to, in 1/1024 pixels.

    What lies too far out for 32 bits stays outside.
    """
    total = _I64(load64(taps + _U64(8 * line))) + _I64(load64(taps + _U64(8 * column))) + rounding
    return _I32(min(max(total, -FAR), FAR))


@device_function(_FOUR(_ADDRESS, _LONG, *[_INT] * 6))
def _warp_linear(src, pitch, height, width, xs, ys, channels, fill):
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


@device_function(_FOUR(_ADDRESS, _INT, _ADDRESS, _LONG, *[_INT] * 6))
def _warp_smooth(step, count, src, pitch, height, width, xs, ys, channels, fill):
    """A warp with `count` taps along each axis."""
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


@device_function(_FOUR(_ADDRESS, _INT, _ADDRESS, _LONG, _ADDRESS, *[_INT] * 5))
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


@device_function(_FOUR(_ADDRESS, _ADDRESS, _LONG, *[_INT] * 3))
def _blurred(step, src, pitch, y, x, channels):
    """Pixel (y, x) of a blur: the sums along x of all rows, then the sum along y."""
    a, b, c, d = _F32(0), _F32(0), _F32(0), _F32(0)
    radius, weights = load32(step + _MARGIN), load64(step + _WEIGHTS)
    height, width = load32(step + _SRC_HEIGHT), load32(step + _SRC_WIDTH)
    taps = 2 * radius + 1
    for j in range(taps):
        line = _at(src, mirrored(_I32(y + j - radius), height), pitch, 0)
        e, f, g, h = _F32(0), _F32(0), _F32(0), _F32(0)
        for k in range(taps):
            weight = load_float(weights + _WORD * _U64(k))
            place = mirrored(_I32(x + k - radius), width)
            pixel = _pixel(line + _U64(place * channels), channels)
            e, f = e + mul_rn(_F32(pixel[0]), weight), f + mul_rn(_F32(pixel[1]), weight)
            g, h = g + mul_rn(_F32(pixel[2]), weight), h + mul_rn(_F32(pixel[3]), weight)
        weight = load_float(weights + _WORD * _U64(taps + j))
        a, b = a + mul_rn(e, weight), b + mul_rn(f, weight)
        c, d = c + mul_rn(g, weight), d + mul_rn(h, weight)
    return level(a), level(b), level(c), level(d)


@device_function(_FOUR(_ADDRESS, *[_INT] * 6))
def _sampled(step, kind, y, x, rows, cols, channels):
    """Four int32: pixel (y, x) of the window of a STEP row."""
    src, pitch, taps = load64(step + _SRC), _I64(load64(step + _SRC_PITCH)), load64(step + _TAPS)
    if kind == StepKind.COPY:
        at = _at(src, load32(step + _Y) + y, pitch, (load32(step + _X) + x) * channels)
        return _pixel(at, channels)
    if kind == StepKind.LINEAR or kind == StepKind.AREA_LINEAR:
        return _linear(src, pitch, taps, y, x, rows, cols, channels)
    if kind == StepKind.BLUR:
        return _blurred(step, src, pitch, load32(step + _Y) + y, load32(step + _X) + x, channels)
    if kind >= StepKind.WARP_NEAREST:
        return _warped(step, kind, src, pitch, taps, y, x, rows, cols, channels)
    if kind == StepKind.NEAREST:
        line = load32(_column(_column(taps, cols, 2, 0), rows, 0, y))
        return _pixel(_at(src, line, pitch, load32(_column(taps, cols, 0, x))), channels)
    if kind == StepKind.CUBIC:
        return _cubic(step, src, pitch, taps, y, x, rows, cols, channels)
    if kind == StepKind.LANCZOS:
        return _lanczos(src, pitch, taps, y, x, rows, cols, channels)
    if kind == StepKind.AREA:
        return _area(step, src, pitch, taps, y, x, rows, cols, channels)
    return _blocks(step, src, pitch, load32(step + _Y) + y, load32(step + _X) + x, channels)


@njit(inline="always")
def _store_pixel(at, pixel, channels):
    store8(at, pixel[0])
    if channels != 1:
        store8(at + _ONE, pixel[1])
        store8(at + _TWO, pixel[2])
        if channels == 4:
            store8(at + _THREE, pixel[3])


def _sample(table, channels):
    """What one thread of SAMPLE does.

    Args:
        table: uint64, address of the (N,) STEP table.
        channels: int32, 1, 3 or 4.
    """
    x = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = _I32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
    kind, rows, cols = load32(step + _KIND), load32(step + _ROWS), load32(step + _COLS)
    if kind != StepKind.SKIP and y < rows and x < cols:
        pixel = _sampled(step, kind, y, x, rows, cols, channels)
        pitch = _I64(load64(step + _DST_PITCH))
        _store_pixel(_at(load64(step + _DST), y, pitch, x * channels), pixel, channels)


@device_function(types.void(_ADDRESS, _INT, _ADDRESS, _ADDRESS, _LONG, _LONG, _INT))
def _emit(norm, value, means, out, pixel, place, output):
    """One value, normalized, into the batch.

    Args:
        norm: Address of its mean; gain and bias are 4 and 8 values on.
        value: int32, the level.
        means: Address of its channel in the mean image, or 0.
        out: Address of the image in the batch.
        pixel: Where the pixel was before it was mirrored, from which its mean is taken.
        place: Where the value goes.
        output: Type of kernels/output.py.
    """
    mean = load_float(norm)
    if means != _U64(0):
        mean = load_float(means + _WORD * _U64(pixel))
    if (
        output == OutputType.FLOAT32
        or output == OutputType.FLOAT16
        or output == OutputType.BFLOAT16
    ):
        gain, bias = load_float(norm + _U64(16)), load_float(norm + _U64(32))
        real = normalized(value, mean, gain, bias)
        if output == OutputType.FLOAT32:
            store_float(out + _U64(4 * place), real)
        elif output == OutputType.FLOAT16:
            store16(out + _U64(2 * place), float16_bits(real))
        else:
            store16(out + _U64(2 * place), bfloat16_bits(real))
    elif output == OutputType.INT8:
        store8(out + _U64(place), shifted(value, mean))
    else:
        store8(out + _U64(place), value)


def _finish(table, channels, output, interleaved):
    """What one thread of FINISH does.

    Args:
        table: uint64, address of the (N,) STEP table.
        channels: int32, 1, 3 or 4.
        output: int32, type of kernels/output.py.
        interleaved: int32, 1 for a batch that is (N, H, W, C).
    """
    x = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    y = _I32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
    step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
    kind, rows, cols = load32(step + _KIND), load32(step + _ROWS), load32(step + _COLS)
    if kind != StepKind.SKIP and y < rows and x < cols:
        norm, means, out = load64(step + _NORM), load64(step + _MEAN_IMAGE), load64(step + _DST)
        plane = _I64(rows) * cols
        pixel = _I64(y) * cols + x
        place, apart = pixel, plane  # of the first value, and from each to the next
        if load32(step + _MIRROR) != 0:
            place = _I64(y) * cols + (cols - 1 - x)
        if interleaved != 0:
            place, apart = place * channels, _I64(1)
        first, second, third, fourth = _sampled(step, kind, y, x, rows, cols, channels)
        _emit(norm, first, means, out, pixel, place, output)
        if channels != 1:
            next_mean = _U64(0)
            if means != _U64(0):
                next_mean = _WORD * _U64(plane)
            means, place = means + next_mean, place + apart
            _emit(norm + _WORD, second, means, out, pixel, place, output)
            means, place = means + next_mean, place + apart
            _emit(norm + _U64(8), third, means, out, pixel, place, output)
            if channels == 4:
                means, place = means + next_mean, place + apart
                _emit(norm + _U64(12), fourth, means, out, pixel, place, output)


@device_function(_THREE_INTS(*[_INT] * 6))
def _hls_moved(red, green, blue, hue, lightness, satur):
    return hls_moved(red, green, blue, hue, lightness, satur)


@device_function(types.float32(_ADDRESS, _ADDRESS))
def _mean_level(total, count):
    return mean_level(total, count)


@device_function(_THREE_INTS(_ADDRESS, *[_INT] * 4, types.float32))
def _colored(step, kind, red, green, blue, rest):
    """A pixel after one colour step.

    Args:
        step: Address of the COLOR_STEP row.
        kind: Its ColorKind.
        red: int32, a level.
        green: int32.
        blue: int32.
        rest: float32, what CONTRAST adds.
    """
    a = load_float(step + _A)
    if kind == ColorKind.BRIGHTNESS or kind == ColorKind.CONTRAST or kind == ColorKind.SATURATION:
        shift = _F32(0)
        if kind == ColorKind.CONTRAST:
            shift = rest
        elif kind == ColorKind.SATURATION:
            shift = mul_rn(_F32(gray_of(red, green, blue)), _F32(1) - a)
        red, green, blue = scaled(red, a, shift), scaled(green, a, shift), scaled(blue, a, shift)
    elif kind == ColorKind.GRAY:
        red = luma(red, green, blue)
        green, blue = red, red
    else:
        b, c = load_float(step + _B), load_float(step + _C)
        if kind == ColorKind.HLS:
            red, green, blue = _hls_moved(red, green, blue, _I32(a), _I32(b), _I32(c))
        else:
            red, green, blue = moved(red, a), moved(green, b), moved(blue, c)
    return red, green, blue


@device_function(_LONG(_ADDRESS, _INT, _INT, types.float32, _ADDRESS, _LONG, *[_INT] * 5))
def _color_pixels(steps, begin, end, rest, picture, pitch, rows, cols, channels, first, stride):
    """Take every `stride`th pixel of a picture through colour steps; the sum of their grays.

    Args:
        steps: Address of COLOR_STEP rows.
        begin: The first row that applies; no row after it is CONTRAST.
        end: The row after the last one.
        rest: What the row `begin` adds where it is CONTRAST.
        picture: Address of pixel 0.
        pitch: Bytes between rows of pixels.
        rows: Rows of pixels.
        cols: Pixels of a row.
        channels: 1, 3 or 4; all steps but BRIGHTNESS take 3.
        first: The first pixel to take.
        stride: Pixels from one to the next.
    """
    total = _I64(0)
    for k in range(first, rows * cols, stride):
        y = _I32(np.uint32(k) // np.uint32(cols))
        at = _at(picture, y, pitch, channels * (k - y * cols))
        red, green, blue, alpha = _pixel(at, channels)
        for number in range(begin, end):
            step = _color_step(steps, number)
            kind = load32(step + _COLOR_KIND)
            if kind != ColorKind.NONE:
                red, green, blue = _colored(step, kind, red, green, blue, rest)
                # Pictures of four channels have no other step than BRIGHTNESS.
                alpha = scaled(alpha, load_float(step + _A), _F32(0))
        total += gray_of(red, green, blue)
        _store_pixel(at, (red, green, blue, alpha), channels)
    return total


@njit(inline="always")
def _color_step(steps, number):
    """The address of COLOR_STEP row `number`."""
    return steps + _U64(number) * _U64(_COLOR_BYTES)


def _color(table, channels):
    """What one block of COLOR does: the colour steps of one picture, in their order.

    CONTRAST needs the mean gray of the picture as it then is. So the steps are taken in runs which
    such a step begins: the threads take all pixels through a run, add up their grays, and wait for
    each other.

    Args:
        table: uint64, address of the (N,) STEP table.
        channels: int32, 1, 3 or 4.
    """
    totals = cuda.shared.array(1, types.int64)
    step = table + _U64(cuda.blockIdx.x) * _U64(_STEP_BYTES)
    steps, kind = load64(step + _COLOR), load32(step + _KIND)
    if steps != _U64(0) and kind != StepKind.SKIP:  # the same for all threads of a block
        rows, cols = load32(step + _ROWS), load32(step + _COLS)
        picture, pitch = load64(step + _DST), _I64(load64(step + _DST_PITCH))
        first, stride = _I32(cuda.threadIdx.x), _I32(cuda.blockDim.x)
        number = load32(step + _COLOR_COUNT)
        begin, rest = _I32(0), _F32(0)
        for end in range(number):
            contrast = _color_step(steps, end)
            if load32(contrast + _COLOR_KIND) == ColorKind.CONTRAST:
                total = _color_pixels(
                    steps, begin, end, rest, picture, pitch, rows, cols, channels, first, stride
                )
                cuda.syncthreads()  # all have read the total before
                if cuda.threadIdx.x == 0:
                    totals[0] = 0
                cuda.syncthreads()
                cuda.atomic.add(totals, 0, total)
                cuda.syncthreads()
                mean = _mean_level(_U64(totals[0]), _U64(rows * cols))
                rest = mul_rn(_F32(1) - load_float(contrast + _A), mean)
                begin = _I32(end)
        _color_pixels(
            steps, begin, number, rest, picture, pitch, rows, cols, channels, first, stride
        )


def grid(kernel, table):
    """Blocks along x, y and z of a launch that serves all of a table.

    Args:
        kernel: A `DeviceKernel`.
        table: (N,) STEP, on the host; N is at least 1, and at most 65535 for SAMPLE and FINISH.
    """
    if kernel.synchronises:
        return len(table), 1, 1
    used = table[table["kind"] != StepKind.SKIP]
    rows, cols = (max(1, int(used[side].max(initial=1))) for side in ("rows", "cols"))
    width, height, _ = kernel.block
    return -(-cols // width), -(-rows // height), len(table)


def compile_device(kernel):
    """A `DeviceKernel` for the current device: `compiled[grid, kernel.block, stream](*arguments)`.

    Code is kept on disk for each kind of device.
    """
    # Without optimisation across libraries it is, for each capability, what `ptx` gives.
    return cuda.jit(kernel.signature, cache=True, lto=False)(kernel.body)


def ptx(kernel, capability):
    """A `DeviceKernel` as PTX for a compute capability such as (9, 0); this takes no driver."""
    text, _ = cuda.compile_ptx(kernel.body, kernel.signature, cc=capability)
    return text


_TABLE = (types.uint64, types.int32)
SAMPLE = DeviceKernel("sample", _sample, types.void(*_TABLE), _PIXELS)
"""`(table, channels)`: the window of each row, as pixels at `dst`; Task `resample` without colours.
Kind SKIP does nothing."""

COLOR = DeviceKernel("color", _color, types.void(*_TABLE), (THREADS, 1, 1), synchronises=True)
"""`(table, channels)`: of each row with a `color` that is not SKIP, the picture at `dst`, in
place: its colour steps in their order. A block takes a picture."""

FINISH = DeviceKernel("finish", _finish, types.void(*_TABLE, types.int32, types.int32), _PIXELS)
"""`(table, channels, output, interleaved)`: the window of each row, normalized, mirrored and cast,
into the batch at `dst`; Task `finish` without colours. Kind SKIP does nothing."""
