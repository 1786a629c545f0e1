"""Blur on the CPU: a convolution along x, then along y, of a picture mirrored at its edges.

The sums are float32, rounded after each product and each addition, taps in their order, and become
levels once, after both. device.py has the same for CUDA.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arithmetic import level, mirrored
from gpuio.kernels.arrays import BYTES, FLOATS, array_at, cut
from gpuio.kernels.native import device_function, mul_rn, stack
from gpuio.kernels.pixels import STEP_ROW, pixel_routine, row_address
from gpuio.kernels.steps import MOST_RADIUS, STEP

_MOST_TAPS = 2 * MOST_RADIUS + 1
_HELD_BYTES = 4 * _MOST_TAPS


@device_function(types.void(STEP_ROW, types.int64, types.int64, BYTES))
def _mirror_row(step, y, channels, out):
    """Row `y` of the source with `margin` pixels more on both sides of the window's columns."""
    source = array_at(row_address(step, y), 1, np.uint8)
    for k in range(step.cols + 2 * step.margin):
        x = mirrored(step.x - step.margin + k, step.src_width)
        for c in range(channels):
            out[k * channels + c] = source[np.uint32(x * channels + c)]


@device_function(types.void(BYTES, FLOATS, types.int64, types.int64, FLOATS))
def _across(source, weights, taps, channels, out):
    """A convolution along x; `source` is longer than `out` by `taps - 1` pixels."""
    for j in range(taps):
        line, weight = source[j * channels : j * channels + len(out)], weights[j]
        for k in range(len(out)):
            product = mul_rn(np.float32(line[k]), weight)
            out[k] = product if j == 0 else out[k] + product


@pixel_routine
def blur_pixels(at, channels, to, pitch, tables):
    """Write the window of a STEP row of kind BLUR; arguments as `pixel_routine` says."""
    step = array_at(at, 1, STEP)[0]
    out = array_at(to, step.rows * pitch, np.uint8)
    radius, size = np.int64(step.margin), np.int64(step.cols) * channels
    taps = 2 * radius + 1
    weights = array_at(step.weights, 2 * taps, np.float32)
    source, free = cut(tables, size + 2 * radius * channels, np.uint8)
    sums, free = cut(free, size, np.float32)
    ring = array_at(free, (taps, size), np.float32)  # rows after the convolution along x
    held = array_at(stack(_HELD_BYTES), _MOST_TAPS, np.int32)  # which rows they are
    for k in range(taps):
        held[k] = -1
    for y in range(step.rows):
        for j in range(taps):
            wanted = mirrored(step.y + y + j - radius, step.src_height)
            line = ring[wanted % taps]
            if held[wanted % taps] != wanted:
                _mirror_row(step, wanted, channels, source)
                _across(source, weights, taps, channels, line)
                held[wanted % taps] = wanted
            weight = weights[taps + j]
            for k in range(size):
                product = mul_rn(line[k], weight)
                sums[k] = product if j == 0 else sums[k] + product
        row = out[y * pitch : y * pitch + size]
        for k in range(size):
            row[k] = level(sums[k])
