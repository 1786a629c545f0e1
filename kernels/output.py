"""The last step: a row of pixels, normalized, mirrored, cast and laid out in the batch.

The value of channel c is `(v - mean[c]) * gain[c] + bias[c]` in float32, rounded after each
operation, so that it is MXNet's and the same on every device. int8 and uint8 are not scaled:
int8 is `v - mean[c]`, clamped, with a mean that was rounded before, and uint8 is `v`.

Each type of output has a `Routine` of its own, so that only the one in use is compiled.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from gpuio.kernels.arithmetic import bfloat16_bits, float16_bits, normalized, shifted
from gpuio.kernels.native import pointer, prefetch
from gpuio.kernels.parallel import Routine
from gpuio.kernels.steps import NORM, STEP, OutputType

_U32 = np.uint32
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


def _float32(out, value, mean, gain, bias):
    return normalized(value, mean, gain, bias)


def _float16(out, value, mean, gain, bias):
    return float16_bits(normalized(value, mean, gain, bias))


def _bfloat16(out, value, mean, gain, bias):
    return bfloat16_bits(normalized(value, mean, gain, bias))


def _int8(out, value, mean, gain, bias):
    return np.int8(shifted(value, mean))


def _uint8(out, value, mean, gain, bias):
    return value


_CONVERSIONS = {
    types.float32: _float32,
    types.uint16: _float16,
    types.int16: _bfloat16,
    types.int8: _int8,
    types.uint8: _uint8,
}


def convert(out, value, mean, gain, bias):
    """The level `value`, normalized, as the type of `out`, one of `_TYPES`."""


@overload(convert)
def _convert(out, value, mean, gain, bias):
    return _CONVERSIONS[out.dtype]


@njit(inline="always")
def _three_planes(row, norm, out, offset, plane, width, mirror):
    """All three channels in one pass over the row."""
    a, b, c = offset, offset + plane, offset + 2 * plane
    line0, line1, line2 = out[a : a + width], out[b : b + width], out[c : c + width]
    m0, m1, m2 = norm[0], norm[1], norm[2]
    g0, g1, g2 = norm[4], norm[5], norm[6]
    b0, b1, b2 = norm[8], norm[9], norm[10]
    if mirror:
        for x in range(width):
            k = _U32(3 * (width - 1 - x))
            line0[x] = convert(out, row[k], m0, g0, b0)
            line1[x] = convert(out, row[k + _U32(1)], m1, g1, b1)
            line2[x] = convert(out, row[k + _U32(2)], m2, g2, b2)
    else:
        for x in range(width):
            k = _U32(3 * x)
            line0[x] = convert(out, row[k], m0, g0, b0)
            line1[x] = convert(out, row[k + _U32(1)], m1, g1, b1)
            line2[x] = convert(out, row[k + _U32(2)], m2, g2, b2)


@njit(inline="always")
def _three_interleaved(row, norm, out, offset, width, mirror):
    """All three channels of pixels that stay together."""
    line = out[offset : offset + 3 * width]
    m0, m1, m2 = norm[0], norm[1], norm[2]
    g0, g1, g2 = norm[4], norm[5], norm[6]
    b0, b1, b2 = norm[8], norm[9], norm[10]
    if mirror:
        for x in range(width):
            k, to = _U32(3 * (width - 1 - x)), _U32(3 * x)
            line[to] = convert(out, row[k], m0, g0, b0)
            line[to + _U32(1)] = convert(out, row[k + _U32(1)], m1, g1, b1)
            line[to + _U32(2)] = convert(out, row[k + _U32(2)], m2, g2, b2)
    else:
        for x in range(width):
            k = _U32(3 * x)
            line[k] = convert(out, row[k], m0, g0, b0)
            line[k + _U32(1)] = convert(out, row[k + _U32(1)], m1, g1, b1)
            line[k + _U32(2)] = convert(out, row[k + _U32(2)], m2, g2, b2)


@njit(inline="always")
def _any_layout(row, norm, means, out, y, height, width, channels, mirror, interleaved):
    for x in range(width):
        source = (width - 1 - x if mirror else x) * channels
        for c in range(channels):
            at = (c * height + y) * width
            mean = norm[c]
            if len(means) > 0:  # taken where the pixel was before it was mirrored
                mean = means[at + source // channels]
            to = (y * width + x) * channels + c if interleaved else at + x
            out[to] = convert(out, row[_U32(source + c)], mean, norm[4 + c], norm[8 + c])


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _emit_row(row, norm, means, out, y, height, width, channels, mirror, interleaved):
    if channels == _RGB and len(means) == 0:
        if interleaved:
            _three_interleaved(row, norm, out, 3 * y * width, width, mirror)
        else:
            _three_planes(row, norm, out, y * width, height * width, width, mirror)
    else:
        _any_layout(row, norm, means, out, y, height, width, channels, mirror, interleaved)


@njit(inline="always")
def _prefetch_row(address, nbytes):
    """Begin to load the `nbytes` of a row at an address."""
    for k in range(0, nbytes, _LINE):
        prefetch(address + np.uint64(k))


def _pixel_emitter(dtype):
    def emit_pixels(at, first, pitch, channels, interleaved):
        """Write the window of a STEP row into the batch.

        Args:
            at: Address of the row.
            first: Address of its pixels, interleaved uint8.
            pitch: Bytes from one row of pixels to the next.
            channels: 1, 3 or 4.
            interleaved: 1 for a batch that is (N, H, W, C), 0 for one that is (N, C, H, W).
        """
        step = carray(pointer(at), 1, STEP)[0]
        height, width = np.int64(step.rows), np.int64(step.cols)
        size = height * width * channels
        norm = carray(pointer(step.norm), NORM, np.float32)
        means = carray(pointer(step.mean_image), size if step.mean_image != 0 else 0, np.float32)
        out, mirror = carray(pointer(step.dst), size, dtype), step.mirror != 0
        for y in range(height):
            if y + _AHEAD < height:
                _prefetch_row(first + np.uint64((y + _AHEAD) * pitch), width * channels)
            row = carray(pointer(first + np.uint64(y * pitch)), width * channels, np.uint8)
            _emit_row(
                row, norm, means, out, y, height, width, channels, mirror, interleaved != 0
            )  # fmt: skip

    signature = types.void(types.uint64, types.uint64, *[types.int64] * 3)
    return Routine(emit_pixels, signature)


def _plane_emitter(dtype):
    def emit_planes(at, row, stride, y):
        """Write one row of an RGB image into the three planes of the batch.

        Args:
            at: Address of its STEP row, which has no mean image.
            row: Address of the reds, uint8; greens and blues follow.
            stride: Bytes from the reds to the greens, and on to the blues.
            y: Row of the image.
        """
        step = carray(pointer(at), 1, STEP)[0]
        height, width = np.int64(step.rows), np.int64(step.cols)
        norm = carray(pointer(step.norm), NORM, np.float32)
        out = carray(pointer(step.dst), _RGB * height * width, dtype)
        for c in range(_RGB):
            start = (c * height + y) * width
            line = out[start : start + width]
            source = carray(pointer(row + np.uint64(c * stride)), width, np.uint8)
            mean, gain, bias = norm[c], norm[4 + c], norm[8 + c]
            if step.mirror != 0:
                for x in range(width):
                    line[x] = convert(out, source[_U32(width - 1 - x)], mean, gain, bias)
            else:
                for x in range(width):
                    line[x] = convert(out, source[x], mean, gain, bias)

    return Routine(emit_planes, types.void(types.uint64, types.uint64, types.int64, types.int64))


emit_pixels = {output: _pixel_emitter(dtype) for output, dtype in _TYPES.items()}
"""By OutputType, the `Routine` that writes interleaved pixels into a batch of that type."""

emit_planes = {output: _plane_emitter(dtype) for output, dtype in _TYPES.items()}
"""By OutputType, the `Routine` that writes a row of three planes into a batch of that type."""
