"""How a thread on a CUDA device writes the pixels of a window that it makes one by one."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from gpuio.kernels.device_output import PIXELS, SCRATCH, store_one, store_pixels, value_bits
from gpuio.kernels.device_pixels import FOUR_LEVELS, field_offsets, pixel_address
from gpuio.kernels.native import device_function, load32, load64, load_float
from gpuio.kernels.steps import STEP

_F32, _I32, _I64, _U64 = np.float32, np.int32, np.int64, np.uint64
_INT, _LONG, _ADDRESS = types.int32, types.int64, types.uint64
_NORM = types.UniTuple(types.float32, 3)
TARGET = types.Tuple((_ADDRESS, _LONG, _ADDRESS, _INT, types.UniTuple(_NORM, 4)))
"""Where the pixels of a STEP row go, and how: its `dst`, `dst_pitch`, `mean_image` and `mirror`,
and mean, gain and bias of each channel."""
FORM = types.UniTuple(types.int32, 5)
"""Of a kernel: channels, OutputType, bytes of a value, layout, whether there is a mean image."""

_DST, _DST_PITCH, _NORM_AT, _MEANS, _MIRROR = field_offsets(
    STEP, "dst dst_pitch norm mean_image mirror"
)


@njit(inline="always")
def _norm_of(at):
    return load_float(at), load_float(at + _U64(16)), load_float(at + _U64(32))


@device_function(TARGET(_ADDRESS, _INT))
def load_target(step, layout):
    """The TARGET of the STEP row at an address; in layout SCRATCH nothing is normalized."""
    zero = _F32(0), _F32(0), _F32(0)
    norms = zero, zero, zero, zero
    if layout != SCRATCH:
        at = load64(step + _NORM_AT)
        norms = (
            _norm_of(at),
            _norm_of(at + _U64(4)),
            _norm_of(at + _U64(8)),
            _norm_of(at + _U64(12)),
        )
    to, pitch = load64(step + _DST), _I64(load64(step + _DST_PITCH))
    return to, pitch, load64(step + _MEANS), load32(step + _MIRROR), norms


@device_function(types.void(TARGET, FOUR_LEVELS, *[_INT] * 4, FORM))
def write_pixel(target, pixel, y, x, rows, cols, form):
    """Write a pixel of a window.

    Args:
        target: The TARGET of its STEP row.
        pixel: Four int32, of which the first `channels` are the pixel.
        y: Its row in the window.
        x: Its column in the window, before that is mirrored.
        rows: Rows of the window.
        cols: Columns of the window.
        form: The FORM of its kernel.
    """
    channels, output, nbytes, layout, mean_image = form
    to, pitch, means, mirror, (p, q, r, s) = target
    if layout == SCRATCH:
        at = pixel_address(to, y, pitch, x * channels)
        store_pixels(at, pixel, pixel, pixel, pixel, 1, channels, 1)
        return
    plane, line = _I64(rows) * cols, _I64(y) * cols
    a, b, c, d = p[0], q[0], r[0], s[0]
    if mean_image != 0:
        at, apart = means + _U64(4 * (line + x)), _U64(4 * plane)
        a = load_float(at)
        if channels != 1:
            b, c = load_float(at + apart), load_float(at + _U64(2) * apart)
        if channels == 4:
            d = load_float(at + _U64(3) * apart)
    place, apart = line + (_I32(cols - 1 - x) if mirror != 0 else x), _U64(nbytes * plane)
    if layout == PIXELS:
        place, apart = place * channels, _U64(nbytes)
    at = to + _U64(nbytes * place)
    store_one(at, value_bits(pixel[0], a, p[1], p[2], output), nbytes)
    if channels != 1:
        store_one(at + apart, value_bits(pixel[1], b, q[1], q[2], output), nbytes)
        store_one(at + _U64(2) * apart, value_bits(pixel[2], c, r[1], r[2], output), nbytes)
    if channels == 4:
        store_one(at + _U64(3) * apart, value_bits(pixel[3], d, s[1], s[2], output), nbytes)
