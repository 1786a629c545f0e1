"""The kernels of a CUDA device that make the windows of rows and write them to memory.

There is one for each kind of step, number of channels, type of values and layout: what is known
when code is compiled takes no instruction and no register. Each is compiled when it is first
wanted, and its code is kept on disk.

A thread has four pixels of a row, whose values it writes at once where they follow each other and
the address allows it.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import cuda, types

from gpuio.kernels.arithmetic import bfloat16_bits, float16_bits, normalized, shifted
from gpuio.kernels.device import DeviceKernel
from gpuio.kernels.device_pixels import FOUR_LEVELS, field_offsets, pixel_address, step_pixel
from gpuio.kernels.native import (
    bits,
    device_function,
    load32,
    load64,
    load_float,
    narrow_bfloat16,
    narrow_float16,
    store8,
    store16,
    store32,
    store_four_words,
    store_two_words,
)
from gpuio.kernels.steps import STEP, OutputType, PixelFunction

PLANES, PIXELS, SCRATCH = 0, 1, 2
"""Layouts: (N, C, H, W); (N, H, W, C); pictures apart from each other, whose rows are `dst_pitch`
bytes apart and which are never mirrored."""

_F32, _I32, _I64, _U64 = np.float32, np.int32, np.int64, np.uint64
_INT, _LONG, _ADDRESS = types.int32, types.int64, types.uint64
_FOUR = types.UniTuple(_INT, 4)
_STEP_BYTES = STEP.itemsize
_AT_ONCE = 4  # pixels of a thread
BLOCK = (32, 4, 1)
"""Threads of a block; those of a warp write neighbours."""
NBYTES = {
    OutputType.FLOAT32: 4,
    OutputType.FLOAT16: 2,
    OutputType.BFLOAT16: 2,
    OutputType.INT8: 1,
    OutputType.UINT8: 1,
}
"""Bytes of a value."""

_DST, _NORM, _MEAN_IMAGE, _DST_PITCH, _MIRROR, _ROWS, _COLS = field_offsets(
    STEP, "dst norm mean_image dst_pitch mirror rows cols"
)
_SRC, _SRC_PITCH, _SRC_HEIGHT, _SRC_WIDTH, _WEIGHTS, _Y, _X = field_offsets(
    STEP, "src src_pitch src_height src_width weights y x"
)


@device_function(_INT(_INT, *[types.float32] * 3, _INT))
def value_bits(level, mean, gain, bias, output):
    """The bits of a level in the batch, normalized.

    Args:
        level: int32.
        mean: float32.
        gain: float32.
        bias: float32.
        output: An OutputType.
    """
    if output == OutputType.UINT8:
        return level
    if output == OutputType.INT8:
        return shifted(level, mean)
    real = normalized(level, mean, gain, bias)
    if output == OutputType.FLOAT16:
        return _I32(narrow_float16(real, float16_bits(real)))
    if output == OutputType.BFLOAT16:
        return _I32(narrow_bfloat16(real, bfloat16_bits(real)))
    return _I32(bits(real))


@device_function(types.void(_ADDRESS, _FOUR, _INT, _INT))
def _store(at, values, count, nbytes):
    """Write the first `count` of four values, each of `nbytes` bytes, one behind the other."""
    a, b, c, d = values
    if count == _AT_ONCE and at & _U64(4 * nbytes - 1) == _U64(0):
        if nbytes == 4:
            store_four_words(at, a, b, c, d)
        elif nbytes == 2:
            store_two_words(at, a & _I32(0xFFFF) | b << _I32(16), c & _I32(0xFFFF) | d << _I32(16))
        else:
            low = a & _I32(0xFF) | (b & _I32(0xFF)) << _I32(8)
            store32(at, low | (c & _I32(0xFF)) << _I32(16) | d << _I32(24))
    else:
        store_one(at, a, nbytes)
        if count > 1:
            store_one(at + _U64(nbytes), b, nbytes)
        if count > 2:
            store_one(at + _U64(2 * nbytes), c, nbytes)
        if count > 3:
            store_one(at + _U64(3 * nbytes), d, nbytes)


@device_function(types.void(_ADDRESS, _INT, _INT))
def store_one(at, value, nbytes):
    """Write the lowest `nbytes` bytes of an int32: 1, 2 or 4."""
    if nbytes == 4:
        store32(at, value)
    elif nbytes == 2:
        store16(at, value)
    else:
        store8(at, value)


@cache
def window(kind, channels, output, layout, mean_image):
    """The kernel `(table)` that makes the windows of all rows of a STEP table.

    It does what Tasks `resample` and `finish` do to rows without colours.

    Args:
        kind: The StepKind of the rows, none of PIXEL_STEPS.
        channels: 1, 3 or 4.
        output: An OutputType; UINT8 for SCRATCH.
        layout: PLANES, PIXELS or SCRATCH.
        mean_image: 1 where means are those of `mean_image`, else 0.
    """
    nbytes = NBYTES[output]
    kind, output = int(kind), int(output)  # a closure of plain numbers is found on disk again

    def body(table):
        first = _I32((cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x) * _AT_ONCE)
        y = _I32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
        step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
        rows, cols = load32(step + _ROWS), load32(step + _COLS)
        if y < rows and first < cols:
            count, last = min(_I32(cols - first), _I32(_AT_ONCE)), _I32(cols - 1)
            # Where the four are before they are mirrored; one behind the last is made twice.
            j, k = first, min(_I32(first + 1), last)
            m, n = min(_I32(first + 2), last), min(_I32(first + 3), last)
            if layout != SCRATCH and load32(step + _MIRROR) != 0:
                j, k, m, n = _I32(last - j), _I32(last - k), _I32(last - m), _I32(last - n)
            p = step_pixel(step, kind, y, j, rows, cols, channels)
            q = step_pixel(step, kind, y, k, rows, cols, channels)
            r = step_pixel(step, kind, y, m, rows, cols, channels)
            s = step_pixel(step, kind, y, n, rows, cols, channels)
            out = load64(step + _DST)
            if layout == SCRATCH:
                out = pixel_address(out, y, _I64(load64(step + _DST_PITCH)), first * channels)
                store_pixels(out, p, q, r, s, count, channels, 1)
            else:
                plane, place = _I64(rows) * cols, _I64(y) * cols
                for_norm, means = load64(step + _NORM), load64(step + _MEAN_IMAGE)
                means = means + _U64(4 * place)
                places = j, k, m, n
                args = for_norm, means, plane, places, output, mean_image
                a = _channel(*args, 0, p[0], q[0], r[0], s[0])
                b = c = d = a
                if channels != 1:
                    b = _channel(*args, 1, p[1], q[1], r[1], s[1])
                    c = _channel(*args, 2, p[2], q[2], r[2], s[2])
                if channels == 4:
                    d = _channel(*args, 3, p[3], q[3], r[3], s[3])
                if layout == PIXELS:
                    p, q = (a[0], b[0], c[0], d[0]), (a[1], b[1], c[1], d[1])
                    r, s = (a[2], b[2], c[2], d[2]), (a[3], b[3], c[3], d[3])
                    out = out + _U64(nbytes * channels * (place + first))
                    store_pixels(out, p, q, r, s, count, channels, nbytes)
                else:
                    out, apart = out + _U64(nbytes * (place + first)), _U64(nbytes * plane)
                    _store(out, a, count, nbytes)
                    if channels != 1:
                        _store(out + apart, b, count, nbytes)
                        _store(out + _U64(2) * apart, c, count, nbytes)
                    if channels == 4:
                        _store(out + _U64(3) * apart, d, count, nbytes)

    key = kind, channels, output, layout, mean_image
    pixels = _AT_ONCE, 1
    return DeviceKernel("window", body, types.void(_ADDRESS), BLOCK, pixels=pixels, key=key)


@device_function(_FOUR(_ADDRESS, _ADDRESS, _LONG, _FOUR, *[_INT] * 7))
def _channel(norm, means, plane, places, output, mean_image, channel, a, b, c, d):
    """One channel of four pixels as values of the batch.

    Args:
        norm: Address of the row's NORM.
        means: Address of the row of the mean image, if `mean_image` is not 0.
        plane: int64, pixels of an image.
        places: Columns of the four before they are mirrored.
        output: An OutputType.
        mean_image: Whether means are those of the mean image.
        channel: Which channel.
        a: The level of the first.
        b: Of the second.
        c: Of the third.
        d: Of the fourth.
    """
    norm = norm + _U64(4 * channel)
    u, v, w, x = norm, norm, norm, norm
    if mean_image != 0:
        line = means + _U64(4 * channel * plane)
        u, v = line + _U64(4 * places[0]), line + _U64(4 * places[1])
        w, x = line + _U64(4 * places[2]), line + _U64(4 * places[3])
    gain, bias = load_float(norm + _U64(16)), load_float(norm + _U64(32))
    return (
        value_bits(a, load_float(u), gain, bias, output),
        value_bits(b, load_float(v), gain, bias, output),
        value_bits(c, load_float(w), gain, bias, output),
        value_bits(d, load_float(x), gain, bias, output),
    )


@device_function(types.void(_ADDRESS, *[FOUR_LEVELS] * 4, *[_INT] * 3))
def store_pixels(at, p, q, r, s, count, channels, nbytes):
    """Write the first `count` of four pixels, their values of `nbytes` bytes side by side."""
    if channels == 1:
        _store(at, (p[0], q[0], r[0], s[0]), count, nbytes)
    elif channels == 4:
        apart = _U64(4 * nbytes)
        _store(at, p, 4, nbytes)
        if count > 1:
            _store(at + apart, q, 4, nbytes)
        if count > 2:
            _store(at + _U64(2) * apart, r, 4, nbytes)
        if count > 3:
            _store(at + _U64(3) * apart, s, 4, nbytes)
    else:
        apart = _U64(4 * nbytes)
        _store(at, (p[0], p[1], p[2], q[0]), min(3 * count, 4), nbytes)
        if count > 1:
            _store(at + apart, (q[1], q[2], r[0], r[1]), min(3 * count - 4, 4), nbytes)
        if count > 2:
            _store(at + _U64(2) * apart, (r[2], s[0], s[1], s[2]), 3 * count - 8, nbytes)


def own_window(kind: int, pixel: PixelFunction) -> DeviceKernel:
    """The kernel `(table, channels)` that makes windows of a kind of PIXEL_STEPS in SCRATCH.

    Args:
        kind: The kind.
        pixel: Its function.
    """
    make = device_function(FOUR_LEVELS(_ADDRESS, _LONG, *[_INT] * 5, _ADDRESS))(pixel)

    def body(table, channels):
        x = _I32(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
        y = _I32(cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y)
        step = table + _U64(cuda.blockIdx.z) * _U64(_STEP_BYTES)
        if y < load32(step + _ROWS) and x < load32(step + _COLS):
            height, width = load32(step + _SRC_HEIGHT), load32(step + _SRC_WIDTH)
            top, left = _I32(load32(step + _Y) + y), _I32(load32(step + _X) + x)
            src, src_pitch = load64(step + _SRC), _I64(load64(step + _SRC_PITCH))
            values = load64(step + _WEIGHTS)
            levels = make(src, src_pitch, height, width, channels, top, left, values)
            to, pitch = load64(step + _DST), _I64(load64(step + _DST_PITCH))
            store_pixels(
                pixel_address(to, y, pitch, x * channels),
                levels,
                levels,
                levels,
                levels,
                1,
                channels,
                1,
            )

    signature = types.void(_ADDRESS, _INT)
    return DeviceKernel("own_window", body, signature, BLOCK, key=(kind,), kept=False)


def window_grid(kernel, table):
    """Blocks along x, y and z of a launch that serves all of a table.

    Args:
        kernel: Of `window`, `own_window` or `strips`.
        table: (N,) STEP, on the host; N is at least 1, and at most 65535.
    """
    rows, cols = (int(table[side].max()) for side in ("rows", "cols"))
    width, height = kernel.block[0] * kernel.pixels[0], kernel.block[1] * kernel.pixels[1]
    return max(1, -(-cols // width)), max(1, -(-rows // height)), len(table)
