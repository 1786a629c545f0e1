"""Blur on the CPU: a convolution along x, then along y, of a picture mirrored at its edges.

The sums are float32, rounded after each product and each addition, taps in their order, and become
levels once, after both. device.py has the same for CUDA.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from gpuio.kernels.arithmetic import level, mirrored
from gpuio.kernels.native import cut, mul_rn, pointer, stack
from gpuio.kernels.pixels import pixel_routine, source_row, step_and_pixels
from gpuio.kernels.steps import MOST_RADIUS

_MOST_TAPS = 2 * MOST_RADIUS + 1
_HELD_BYTES = 4 * _MOST_TAPS


@njit(nogil=True, error_model="numpy", boundscheck=False)
def _mirror_row(step, y, channels, out):
    """Row `y` of the source with `margin` pixels more on both sides of the window's columns."""
    source = source_row(step, y, channels)
    for k in range(step.cols + 2 * step.margin):
        x = mirrored(step.x - step.margin + k, step.src_width)
        for c in range(channels):
            out[k * channels + c] = source[np.uint32(x * channels + c)]


@njit(nogil=True, error_model="numpy", boundscheck=False)
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
    step, out = step_and_pixels(at, to, pitch)
    radius, size = np.int64(step.margin), np.int64(step.cols) * channels
    taps = 2 * radius + 1
    weights = carray(pointer(step.weights), 2 * taps, np.float32)
    source, free = cut(tables, size + 2 * radius * channels, np.uint8)
    sums, free = cut(free, size, np.float32)
    ring = carray(pointer(free), (taps, size), np.float32)  # rows after the convolution along x
    held = carray(pointer(stack(_HELD_BYTES)), _MOST_TAPS, np.int32)  # which rows they are
    held[:] = -1
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
