"""Taps of resizes: for one axis, source indices and weights of each position of the result.

They are computed in double precision, as MXNet 1.9.1's OpenCV does; what is computed for each pixel
is integer arithmetic on these tables, and so the same on every device. Along both axes
`scale = 1 / (dst / src)`, and indices beyond the image are clamped to it.

Devices compute the taps of all kinds but LANCZOS with the same functions (device_taps.py); the
sines of LANCZOS differ between mathematical libraries.

Source: OpenCV 3.4, modules/imgproc/src/resize.cpp.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types

from gpuio.kernels.arrays import FLOATS, INTS, address, array_at
from gpuio.kernels.axis_taps import area_tap, cubic_four, tap_place
from gpuio.kernels.native import device_function, stack
from gpuio.kernels.steps import TAPS, StepKind

_F32 = np.float32
_LONG, _FLOAT = types.int64, types.float32
_ONE = np.float32(1)
_SCALE = np.float32(2048)
_SQRT_HALF = 0.70710678118654752440


@device_function(types.void(_FLOAT, FLOATS))
def cubic_weights(t, out):
    """As `cubic_four`, written to the first four of `out`."""
    out[0], out[1], out[2], out[3] = cubic_four(t)


@device_function(types.void(_FLOAT, FLOATS))
def lanczos_weights(t, out):
    """The eight weights of Lanczos-4 at fraction `t`, as float32 that sum to 1."""
    if t < _F32(1.1920929e-7):
        for k in range(8):
            out[k] = _ONE if k == 3 else _F32(0)
        return
    q = _SQRT_HALF
    at = t + _F32(3)  # rounded, as all of OpenCV's places are
    y0 = -np.float64(at) * math.pi * 0.25
    sine, cosine = math.sin(y0), math.cos(y0)
    total = _F32(0)
    for k in range(8):
        turn = k % 8
        c = (1.0, -q, 0.0, q, -1.0, q, 0.0, -q)[turn]
        d = (0.0, -q, 1.0, -q, 0.0, q, -1.0, q)[turn]
        y = -np.float64(at - _F32(k)) * math.pi * 0.25
        out[k] = _F32((c * sine + d * cosine) / (y * y))
        total += out[k]
    total = _ONE / total
    for k in range(8):
        out[k] *= total


_WEIGHTS = _LONG(_LONG, types.float64, _LONG, _LONG, types.boolean, FLOATS)


@device_function(_WEIGHTS)
def _two_weights(kind, scale, src, place, horizontal, weights):
    """As `tap_weights`, for NEAREST, LINEAR and AREA_LINEAR."""
    i, t = tap_place(kind, scale, src, place, horizontal)
    weights[0], weights[1] = _ONE - t, t
    return i


@device_function(_WEIGHTS)
def _cubic_weights(kind, scale, src, place, horizontal, weights):
    """As `tap_weights`, for CUBIC."""
    i, t = tap_place(kind, scale, src, place, horizontal)
    cubic_weights(t, weights)
    return i - 1


@device_function(_WEIGHTS)
def _lanczos_weights(kind, scale, src, place, horizontal, weights):
    """As `tap_weights`, for LANCZOS."""
    i, t = tap_place(kind, scale, src, place, horizontal)
    lanczos_weights(t, weights)
    return i - 3


@device_function(_WEIGHTS)
def tap_weights(kind, scale, src, place, horizontal, weights):
    """What a kind with a fixed number of taps reads for one position of the result.

    Args:
        kind: As for `tap_place`.
        scale: As for `tap_place`.
        src: As for `tap_place`.
        place: As for `tap_place`.
        horizontal: As for `tap_place`.
        weights: (8,) float32, overwritten with the weights of the taps.

    Returns:
        The source pixel of the first tap; it may lie outside of the source.
    """
    if kind == StepKind.CUBIC:
        return _cubic_weights(kind, scale, src, place, horizontal, weights)
    if kind == StepKind.LANCZOS:
        return _lanczos_weights(kind, scale, src, place, horizontal, weights)
    return _two_weights(kind, scale, src, place, horizontal, weights)


def _axis_filler(weigh):
    """A function that makes the tables of the kinds whose weights are those of `weigh`."""

    @device_function(types.void(*[_LONG] * 6, types.boolean, INTS, INTS), inline=False)
    def fill_axis(kind, src, dst, first, count, step, horizontal, index, weight):
        """Fill the tables of a kind with a fixed number of taps.

        Args:
            kind: A StepKind.
            src: Source length, in pixels.
            dst: Output length, in pixels.
            first: First output position wanted.
            count: Output positions wanted.
            step: What one source pixel is in `index`: channels for columns, 1 for rows.
            horizontal: As for `tap_weights`.
            index: (taps * count,) int32, tap by tap, overwritten with clamped source
                positions times `step`.
            weight: (taps * count,) int32, overwritten with weights in 1/2048.
        """
        scale = 1.0 / (np.float64(dst) / np.float64(src))
        real = array_at(stack(32), 8, np.float32)
        for j in range(count):
            start = weigh(kind, scale, src, first + j, horizontal, real)
            for k in range(TAPS[kind]):
                index[k * count + j] = min(max(start + k, 0), src - 1) * step
                weight[k * count + j] = np.int32(np.rint(real[k] * _SCALE))

    return fill_axis


two_taps = _axis_filler(_two_weights)
"""Tables of NEAREST, LINEAR and AREA_LINEAR along one axis."""
cubic_taps = _axis_filler(_cubic_weights)
"""Tables of CUBIC along one axis."""
lanczos_taps = _axis_filler(_lanczos_weights)
"""Tables of LANCZOS along one axis."""
fixed_taps = _axis_filler(tap_weights)
"""Tables of any kind with a fixed number of taps along one axis."""


@device_function(types.void(*[_LONG] * 6, INTS, FLOATS), inline=False)
def area_taps(src, dst, first, count, taps, step, index, weight):
    """Fill the tables of an area average over shrinking axes.

    Args:
        src: Source length, in pixels, at least `dst`.
        dst: Output length, in pixels.
        first: First output position wanted.
        count: Output positions wanted.
        taps: Taps that the tables have space for, at least ceil(src / dst) + 2.
        step: What one source pixel is in `index`.
        index: (taps * count,) int32, tap by tap, overwritten.
        weight: (taps * count,) float32, overwritten; unused taps weigh 0.
    """
    scale = 1.0 / (np.float64(dst) / np.float64(src))
    at = address(index), address(weight)
    for j in range(count):
        area_tap(src, scale, first + j, j, count, taps, step, at[0], at[1])
