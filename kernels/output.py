"""The last step: a row of pixels, normalized, mirrored, cast and laid out in the batch.

The value of channel c is `(v - mean[c]) * gain[c] + bias[c]` in float32, rounded after each
operation, so that it is MXNet's and the same on every device. int8 and uint8 are not scaled:
int8 is `v - mean[c]`, clamped, with a mean that was rounded before, and uint8 is `v`.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from gpuio.kernels.arithmetic import bfloat16_bits, float16_bits, normalized, shifted
from gpuio.kernels.native import pointer
from gpuio.kernels.steps import OutputType

_U32 = np.uint32


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
    """What `value` becomes in `out`, an array whose type says which.

    float16 is kept as bits in uint16, and bfloat16 in int16.
    """


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
def _store(row, norm, means, out, y, height, width, channels, mirror, interleaved):
    if channels == 3 and len(means) == 0:
        if interleaved:
            _three_interleaved(row, norm, out, 3 * y * width, width, mirror)
        else:
            _three_planes(row, norm, out, y * width, height * width, width, mirror)
    else:
        _any_layout(
            row, norm, means, out, y, height, width, channels, mirror, interleaved
        )  # fmt: skip


@njit(nogil=True, error_model="numpy")
def emit_row(row, norm, mean_image, kind, out, y, height, width, channels, mirror, interleaved):
    """Row `y` of one image into the batch.

    Args:
        row: (width * channels,) uint8, interleaved.
        norm: (NORM,) float32: means, gains and biases, four each.
        mean_image: Address of a (C, H, W) float32 mean that replaces the means, or 0.
        kind: FLOAT32, FLOAT16, INT8, UINT8 or BFLOAT16.
        out: Address of the image in the batch, (C, H, W) or (H, W, C).
        y: Row, from 0.
        height: Rows of the output.
        width: Pixels in a row.
        channels: 1, 3 or 4.
        mirror: Whether to write the row from right to left.
        interleaved: Whether `out` is (H, W, C).
    """
    size = height * width * channels
    means = carray(pointer(mean_image), size if mean_image != 0 else 0, np.float32)
    shape = (y, height, width, channels, mirror, interleaved)
    place = pointer(out)
    if kind == OutputType.FLOAT32:
        _store(row, norm, means, carray(place, size, np.float32), *shape)
    elif kind == OutputType.FLOAT16:
        _store(row, norm, means, carray(place, size, np.uint16), *shape)
    elif kind == OutputType.BFLOAT16:
        _store(row, norm, means, carray(place, size, np.int16), *shape)
    elif kind == OutputType.INT8:
        _store(row, norm, means, carray(place, size, np.int8), *shape)
    else:
        _store(row, norm, means, carray(place, size, np.uint8), *shape)
