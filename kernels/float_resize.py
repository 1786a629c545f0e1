"""Resizing of floating-point images: the kernels' formulas with weights that are not quantised.

Weights are float32, sums have the type of the image, nothing is rounded or cut off: what MXNet
1.9.1's OpenCV does with such images, but for the order in which it adds.

Source: OpenCV 3.4, modules/imgproc/src/resize.cpp.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit

from gpuio.kernels.native import pointer, stack
from gpuio.kernels.steps import AREA_EXTRA, TAPS, StepKind, resize_kinds
from gpuio.kernels.taps import area_taps, tap_weights


@njit(cache=True, nogil=True, error_model="numpy")
def _fixed_taps(kind, src, dst, count, index, weight):
    """Fill the tables of a kind with a fixed number of taps.

    Args:
        kind: NEAREST, LINEAR, AREA_LINEAR, CUBIC or LANCZOS.
        src: Source length, in pixels.
        dst: Output length, in pixels.
        count: Taps.
        index: (count, dst) int32, overwritten with source positions, clamped.
        weight: (count, dst) float32, overwritten.
    """
    scale = 1.0 / (np.float64(dst) / np.float64(src))
    real = carray(pointer(stack(32)), 8, np.float32)
    for d in range(dst):
        first = tap_weights(kind, scale, src, d, False, real)
        for k in range(count):
            index[k, d] = min(max(first + k, 0), src - 1)
            weight[k, d] = real[k]


@njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _across(image, index, weight, out):
    """(H, W, C) resized along x into (H, width, C)."""
    taps, width = index.shape
    channels = image.shape[2]
    for y in range(image.shape[0]):
        for x in range(width):
            for c in range(channels):
                out[y, x, c] = image[y, index[0, x], c] * weight[0, x]
            for k in range(1, taps):
                for c in range(channels):
                    out[y, x, c] += image[y, index[k, x], c] * weight[k, x]


@njit(cache=True, nogil=True, error_model="numpy", boundscheck=False)
def _down(image, index, weight, out):
    """(H, size) resized along y into (height, size)."""
    taps, height = index.shape
    for y in range(height):
        for k in range(taps):
            row, factor = image[index[k, y]], weight[k, y]
            for x in range(image.shape[1]):
                out[y, x] = row[x] * factor + (out[y, x] if k else 0)


def _axis(kind, src, dst):
    """(taps, dst) source positions and weights of each output position along one axis."""
    if kind in (StepKind.AREA, StepKind.AREA_INTEGER):
        taps = src // dst + AREA_EXTRA
        index, weight = np.empty(taps * dst, np.int32), np.empty(taps * dst, np.float32)
        area_taps(src, dst, 0, dst, taps, 1, index, weight)
        return index.reshape(taps, dst), weight.reshape(taps, dst)
    taps = int(TAPS[kind])
    index, weight = np.empty((taps, dst), np.int32), np.empty((taps, dst), np.float32)
    _fixed_taps(kind, src, dst, taps, index, weight)
    return index, weight


def resize(image, height, width, inter=1):
    """An image, resized in the calling thread without the GIL.

    Args:
        image: (H, W, C) float32 or float64.
        height: Height of the result, in pixels.
        width: Width of the result, in pixels.
        inter: 0 nearest, 1 bilinear, 2 cubic, 3 area, 4 Lanczos.

    Returns:
        (height, width, C) of the type of `image`.
    """
    image = np.ascontiguousarray(image)
    rows, cols, channels = image.shape
    kind = resize_kinds(np.array([[rows, cols]]), np.array([[height, width]]), np.array([inter]))[0]
    if (rows, cols) == (height, width):
        return image.copy()
    middle = np.empty((rows, width, channels), image.dtype)
    _across(image, *_axis(kind, cols, width), middle)
    out = np.empty((height, width, channels), image.dtype)
    columns = width * channels
    _down(middle.reshape(rows, columns), *_axis(kind, rows, height), out.reshape(height, columns))
    return out
