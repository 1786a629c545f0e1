"""The last step: a row of pixels, normalized, mirrored, cast and laid out in the batch.

The value of channel c is `(v - mean[c]) * gain[c] + bias[c]` in float32, rounded after each
operation, so that it is MXNet's and the same on every device. int8 and uint8 are not scaled:
int8 is `v - mean[c]`, clamped, with a mean that was rounded before, and uint8 is `v`.

Each type of output has a `Routine` of its own for each `Form`, so that only what is in use is
compiled.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numba import from_dtype, types

from gpuio.kernels.arithmetic import bfloat16_bits, float16_bits, normalized, shifted
from gpuio.kernels.arrays import BYTES, FLOATS, array_at
from gpuio.kernels.native import device_function, prefetch
from gpuio.kernels.routine import Routine
from gpuio.kernels.steps import NORM, STEP, OutputType

_U32 = np.uint32
_LONG = types.int64
_EMIT = types.void(types.uint64, types.uint64, *[types.int64] * 3)
_RGB = 3
_AHEAD = 4  # rows: pixels of a cache come from memory, which takes as long as some rows do
_LINE = 64  # bytes of the processor's cache
_TYPES = {
    OutputType.FLOAT32: np.float32,
    OutputType.FLOAT16: np.uint16,
    OutputType.INT8: np.int8,
    OutputType.UINT8: np.uint8,
    OutputType.BFLOAT16: np.int16,
}
"""Types of the arrays that are written; of binary16 and bfloat16, the bits."""


_LEVEL, _NUMBERS = types.int32, [types.float32] * 3


@device_function(types.float32(_LEVEL, *_NUMBERS))
def _float32(value, mean, gain, bias):
    return normalized(value, mean, gain, bias)


@device_function(types.uint16(_LEVEL, *_NUMBERS))
def _float16(value, mean, gain, bias):
    return float16_bits(normalized(value, mean, gain, bias))


@device_function(types.int16(_LEVEL, *_NUMBERS))
def _bfloat16(value, mean, gain, bias):
    return np.int16(bfloat16_bits(normalized(value, mean, gain, bias)))


@device_function(types.int8(_LEVEL, *_NUMBERS))
def _int8(value, mean, gain, bias):
    return np.int8(shifted(value, mean))


@device_function(types.uint8(_LEVEL, *_NUMBERS))
def _uint8(value, mean, gain, bias):
    return np.uint8(value)


CONVERSIONS = {
    OutputType.FLOAT32: _float32,
    OutputType.FLOAT16: _float16,
    OutputType.INT8: _int8,
    OutputType.UINT8: _uint8,
    OutputType.BFLOAT16: _bfloat16,
}
"""By OutputType, `convert(value, mean, gain, bias)` makes a level a value of the batch."""


class Form(IntEnum):
    """How a routine of `emit_pixels` goes through the pixels."""

    PLANES = 0
    """RGB to (C, H, W), without a mean image."""
    INTERLEAVED = 1
    """RGB to (H, W, C), without a mean image."""
    ANY = 2
    """Any channels, either layout, with a mean image or without."""


def _planes_writer(convert, dtype):
    """Writes all three channels in one pass over the row."""
    values = types.Array(from_dtype(np.dtype(dtype)), 1, "C")

    @device_function(types.void(BYTES, FLOATS, values, *[_LONG] * 3, types.boolean))
    def write_row(row, norm, out, offset, plane, width, mirror):
        a, b, c = offset, offset + plane, offset + 2 * plane
        line0, line1, line2 = out[a : a + width], out[b : b + width], out[c : c + width]
        m0, m1, m2 = norm[0], norm[1], norm[2]
        g0, g1, g2 = norm[4], norm[5], norm[6]
        b0, b1, b2 = norm[8], norm[9], norm[10]
        if mirror:
            for x in range(width):
                k = _U32(3 * (width - 1 - x))
                line0[x] = convert(row[k], m0, g0, b0)
                line1[x] = convert(row[k + _U32(1)], m1, g1, b1)
                line2[x] = convert(row[k + _U32(2)], m2, g2, b2)
        else:
            for x in range(width):
                k = _U32(3 * x)
                line0[x] = convert(row[k], m0, g0, b0)
                line1[x] = convert(row[k + _U32(1)], m1, g1, b1)
                line2[x] = convert(row[k + _U32(2)], m2, g2, b2)

    return write_row


def _interleaved_writer(convert, dtype):
    """Writes all three channels of pixels that stay together."""
    values = types.Array(from_dtype(np.dtype(dtype)), 1, "C")

    @device_function(types.void(BYTES, FLOATS, values, _LONG, _LONG, types.boolean))
    def write_row(row, norm, out, offset, width, mirror):
        line = out[offset : offset + 3 * width]
        m0, m1, m2 = norm[0], norm[1], norm[2]
        g0, g1, g2 = norm[4], norm[5], norm[6]
        b0, b1, b2 = norm[8], norm[9], norm[10]
        if mirror:
            for x in range(width):
                k, to = _U32(3 * (width - 1 - x)), _U32(3 * x)
                line[to] = convert(row[k], m0, g0, b0)
                line[to + _U32(1)] = convert(row[k + _U32(1)], m1, g1, b1)
                line[to + _U32(2)] = convert(row[k + _U32(2)], m2, g2, b2)
        else:
            for x in range(width):
                k = _U32(3 * x)
                line[k] = convert(row[k], m0, g0, b0)
                line[k + _U32(1)] = convert(row[k + _U32(1)], m1, g1, b1)
                line[k + _U32(2)] = convert(row[k + _U32(2)], m2, g2, b2)

    return write_row


@device_function(types.void(types.uint64, *[_LONG] * 4))
def _prefetch_row(first, pitch, y, height, nbytes):
    """Begin to load the `nbytes` of a row that comes some rows after row `y`."""
    if y + _AHEAD < height:
        for k in range(0, nbytes, _LINE):
            prefetch(first + np.uint64((y + _AHEAD) * pitch + k))


def _planes_emitter(convert, dtype):
    write_row = _planes_writer(convert, dtype)

    def emit_rgb_planes(at, first, pitch, channels, interleaved):
        """Write an RGB window of a STEP row into (C, H, W); arguments as `_any_emitter` has."""
        step = array_at(at, 1, STEP)[0]
        height, width = np.int64(step.rows), np.int64(step.cols)
        norm = array_at(step.norm, NORM, np.float32)
        out = array_at(step.dst, _RGB * step.rows * width, dtype)
        for y in range(height):
            _prefetch_row(first, pitch, y, step.rows, width * _RGB)
            row = array_at(first + np.uint64(y * pitch), width * _RGB, np.uint8)
            write_row(row, norm, out, y * width, height * width, width, step.mirror != 0)

    return Routine(emit_rgb_planes, _EMIT, np.dtype(dtype).name)


def _interleaved_emitter(convert, dtype):
    write_row = _interleaved_writer(convert, dtype)

    def emit_rgb_pixels(at, first, pitch, channels, interleaved):
        """Write an RGB window of a STEP row into (H, W, C); arguments as `_any_emitter` has."""
        step = array_at(at, 1, STEP)[0]
        width = np.int64(step.cols)
        norm = array_at(step.norm, NORM, np.float32)
        out = array_at(step.dst, _RGB * step.rows * width, dtype)
        for y in range(step.rows):
            _prefetch_row(first, pitch, y, step.rows, width * _RGB)
            row = array_at(first + np.uint64(y * pitch), width * _RGB, np.uint8)
            write_row(row, norm, out, _RGB * y * width, width, step.mirror != 0)

    return Routine(emit_rgb_pixels, _EMIT, np.dtype(dtype).name)


def _any_emitter(convert, dtype):
    def emit_any_pixels(at, first, pitch, channels, interleaved):
        """Write the window of a STEP row into the batch.

        Args:
            at: Address of the row.
            first: Address of its pixels, interleaved uint8.
            pitch: Bytes from one row of pixels to the next.
            channels: 1, 3 or 4.
            interleaved: 1 for a batch that is (N, H, W, C), 0 for one that is (N, C, H, W).
        """
        step = array_at(at, 1, STEP)[0]
        height, width = np.int64(step.rows), np.int64(step.cols)
        size, mirror = height * width * channels, step.mirror != 0
        norm, out = array_at(step.norm, NORM, np.float32), array_at(step.dst, size, dtype)
        means = array_at(step.mean_image, size if step.mean_image != 0 else 0, np.float32)
        for y in range(height):
            _prefetch_row(first, pitch, y, step.rows, width * channels)
            row = array_at(first + np.uint64(y * pitch), width * channels, np.uint8)
            for x in range(width):
                source = (width - 1 - x if mirror else x) * channels
                for c in range(channels):
                    at_plane = (c * height + y) * width
                    mean = norm[c]
                    if len(means) > 0:  # taken where the pixel was before it was mirrored
                        mean = means[at_plane + source // channels]
                    to = (y * width + x) * channels + c if interleaved != 0 else at_plane + x
                    out[to] = convert(row[_U32(source + c)], mean, norm[4 + c], norm[8 + c])

    return Routine(emit_any_pixels, _EMIT, np.dtype(dtype).name)


def _plane_emitter(convert, dtype):
    def emit_planes(at, row, stride, y):
        """Write one row of an RGB image into the three planes of the batch.

        Args:
            at: Address of its STEP row, which has no mean image.
            row: Address of the reds, uint8; greens and blues follow.
            stride: Bytes from the reds to the greens, and on to the blues.
            y: Row of the image.
        """
        step = array_at(at, 1, STEP)[0]
        height, width = np.int64(step.rows), np.int64(step.cols)
        norm = array_at(step.norm, NORM, np.float32)
        out = array_at(step.dst, _RGB * height * width, dtype)
        for c in range(_RGB):
            start = (c * height + y) * width
            line = out[start : start + width]
            source = array_at(row + np.uint64(c * stride), width, np.uint8)
            mean, gain, bias = norm[c], norm[4 + c], norm[8 + c]
            if step.mirror != 0:
                for x in range(width):
                    line[x] = convert(source[_U32(width - 1 - x)], mean, gain, bias)
            else:
                for x in range(width):
                    line[x] = convert(source[x], mean, gain, bias)

    signature = types.void(types.uint64, types.uint64, types.int64, types.int64)
    return Routine(emit_planes, signature, np.dtype(dtype).name)


emit_pixels = {
    (output, form): make(CONVERSIONS[output], _TYPES[output])
    for output in OutputType
    for form, make in zip(Form, (_planes_emitter, _interleaved_emitter, _any_emitter), strict=True)
}
"""By OutputType and Form, the `Routine` that writes interleaved pixels into such a batch."""

emit_planes = {output: _plane_emitter(CONVERSIONS[output], _TYPES[output]) for output in OutputType}
"""By OutputType, the `Routine` that writes a row of three planes into a batch of that type."""
