"""The commonest way of a picture on the CPU: bilinear resize, crop, mirror, normalisation.

The same arithmetic as in kernels/resample.py, which does everything else, in an order that suits
vectors: rows resized along x are kept as planes, and go from there straight into the batch. Both
give the same bits.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from gpuio.kernels.native import address, hold, pointer
from gpuio.kernels.output import FLOAT16, FLOAT32, INT8, convert
from gpuio.kernels.taps import LINEAR, fixed_taps
from gpuio.kernels.vector import LANES, blend_pixels

CHANNELS = 3


@njit(inline="always")
def _padded(count):
    return (count + LANES - 1) // LANES * LANES


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _across(source, index, weight, cols, line, stride):
    """One source row along x into three planes of int16, `stride` values from one to the next."""
    size = np.uint64(4 * cols)
    left, left_weight = address(index), address(weight)
    for x in range(0, cols, LANES):
        skip = np.uint64(4 * x)
        blend_pixels(
            source, left + skip, left + size + skip, left_weight + skip, left_weight + size + skip,
            address(line) + np.uint64(2 * x), np.uint64(2 * stride),
        )  # fmt: skip
    hold(index)
    hold(weight)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _down(upper, lower, u, v, out, size):
    """Two rows along y into one of uint8."""
    for k in range(size):
        a, b = (np.int32(upper[k]) * u) >> 16, (np.int32(lower[k]) * v) >> 16
        out[k] = (a + b + 2) >> 2


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _emit(row, stride, norm, out, y, height, width, mirror):
    """A row of three planes into the three planes of the batch."""
    for c in range(CHANNELS):
        at = (c * height + y) * width
        line, source = out[at : at + width], row[c * stride : c * stride + width]
        mean, gain, bias = norm[c], norm[4 + c], norm[8 + c]
        if mirror:
            for x in range(width):
                line[x] = convert(out, source[np.uint32(width - 1 - x)], mean, gain, bias)
        else:
            for x in range(width):
                line[x] = convert(out, source[x], mean, gain, bias)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def bilinear_to_planes(step, norm, output):
    """Finish a STEP row of kind LINEAR with three channels and without colour or mean image.

    Args:
        step: The row; `dst` is the image in a batch that is (N, 3, H, W).
        norm: (NORM,) float32.
        output: Type of the batch, of kernels/output.py.
    """
    cols, rows = step.cols, step.rows
    stride = _padded(cols)
    index, weight = np.zeros(2 * stride, np.int32), np.zeros(2 * stride, np.int32)
    part, part_weight = np.empty(2 * cols, np.int32), np.empty(2 * cols, np.int32)
    width = (LINEAR, step.src_width, step.dst_width, step.x, cols, CHANNELS, True)
    fixed_taps(*width, part, part_weight)
    for k in range(2):
        index[k * stride : k * stride + cols] = part[k * cols : (k + 1) * cols]
        weight[k * stride : k * stride + cols] = part_weight[k * cols : (k + 1) * cols]
    places, share = np.empty(2 * rows, np.int32), np.empty(2 * rows, np.int32)
    height = (LINEAR, step.src_height, step.dst_height, step.y, rows, 1, False)
    fixed_taps(*height, places, share)
    size = CHANNELS * stride
    ring, row = np.empty((2, size), np.int16), np.empty(size, np.uint8)
    held = np.full(2, -1, np.int32)
    place, mirror, image = pointer(step.dst), step.mirror != 0, CHANNELS * rows * cols
    for y in range(rows):
        for k in range(2):
            wanted = places[k * rows + y]
            if held[wanted & 1] != wanted:
                source = step.src + np.uint64(wanted * step.src_pitch)
                _across(source, index, weight, stride, ring[wanted & 1], stride)
                held[wanted & 1] = wanted
        upper, lower = ring[places[y] & 1], ring[places[rows + y] & 1]
        _down(upper, lower, share[y], share[rows + y], row, size)
        if output == FLOAT32:
            _emit(row, stride, norm, carray(place, image, np.float32), y, rows, cols, mirror)
        elif output == FLOAT16:
            _emit(row, stride, norm, carray(place, image, np.uint16), y, rows, cols, mirror)
        elif output == INT8:
            _emit(row, stride, norm, carray(place, image, np.int8), y, rows, cols, mirror)
        else:
            _emit(row, stride, norm, carray(place, image, np.uint8), y, rows, cols, mirror)
