"""The colour steps of pictures on the CPU: a routine for each kind, in place.

What becomes of a pixel is in color.py, for every device.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arrays import array_at
from gpuio.kernels.color import gray_of, hls_moved, luma, mean_level, moved, scaled
from gpuio.kernels.native import device_function, mul_rn
from gpuio.kernels.routine import Routine
from gpuio.kernels.steps import COLOR_STEP, STEP, ColorKind, StepKind

_F32, _I32, _U64 = np.float32, np.int32, np.uint64

# Places in an image are unsigned: Numba would look for negative ones, and loops stay no vectors.
_FIRST, _SECOND = np.uint32(1), np.uint32(2)


@device_function(types.uint32(types.int64))
def _place(pixel):
    return np.uint32(3 * pixel)


def _color_routine(body):
    """Make a function the `Routine` of a kind of colour step.

    Args:
        body: `body(at, nbytes, step)` changes the RGB picture of `nbytes` at address `at` in place,
            as the COLOR_STEP row at address `step` says.
    """
    return Routine(body, types.void(types.uint64, types.int64, types.uint64))


@_color_routine
def brightness(at, nbytes, step):
    """Every value times `factor`."""
    image, factor = array_at(at, nbytes, np.uint8), array_at(step, 1, COLOR_STEP)[0].a
    for k in range(len(image)):
        image[k] = scaled(image[k], factor, _F32(0))


@_color_routine
def contrast(at, nbytes, step):
    """Every value times `factor`, plus what keeps the mean gray of the image where it is."""
    image, factor = array_at(at, nbytes, np.uint8), array_at(step, 1, COLOR_STEP)[0].a
    total, count = np.int64(0), len(image) // 3
    for pixel in range(count):
        k = _place(pixel)
        total += gray_of(image[k], image[k + _FIRST], image[k + _SECOND])
    rest = mul_rn(_F32(1) - factor, mean_level(_U64(total), _U64(count)))
    for k in range(len(image)):
        image[k] = scaled(image[k], factor, rest)


@_color_routine
def saturation(at, nbytes, step):
    """Every value times `factor`, plus the rest of its pixel's gray."""
    image, factor = array_at(at, nbytes, np.uint8), array_at(step, 1, COLOR_STEP)[0].a
    rest = _F32(1) - factor
    for pixel in range(len(image) // 3):
        k = _place(pixel)
        red, green, blue = image[k], image[k + _FIRST], image[k + _SECOND]
        gray = mul_rn(_F32(gray_of(red, green, blue)), rest)
        image[k] = scaled(red, factor, gray)
        image[k + _FIRST] = scaled(green, factor, gray)
        image[k + _SECOND] = scaled(blue, factor, gray)


@_color_routine
def shift_channels(at, nbytes, step):
    """Each channel plus a shift of its own; the sum is cut to a whole number."""
    image, shift = array_at(at, nbytes, np.uint8), array_at(step, 1, COLOR_STEP)[0]
    red, green, blue = shift.a, shift.b, shift.c
    for pixel in range(len(image) // 3):
        k = _place(pixel)
        image[k] = moved(image[k], red)
        image[k + _FIRST] = moved(image[k + _FIRST], green)
        image[k + _SECOND] = moved(image[k + _SECOND], blue)


@_color_routine
def hls_shift(at, nbytes, step):
    """Shifts of hue, lightness and saturation, each clamped: 0..180, 0..255, 0..255."""
    image, shift = array_at(at, nbytes, np.uint8), array_at(step, 1, COLOR_STEP)[0]
    hue, lightness, satur = _I32(shift.a), _I32(shift.b), _I32(shift.c)
    for pixel in range(len(image) // 3):
        k = _place(pixel)
        red, green, blue = hls_moved(
            image[k], image[k + _FIRST], image[k + _SECOND], hue, lightness, satur
        )
        image[k], image[k + _FIRST], image[k + _SECOND] = red, green, blue


@_color_routine
def make_gray(at, nbytes, step):
    """All channels 0.21 R + 0.72 G + 0.07 B, rounded."""
    image = array_at(at, nbytes, np.uint8)
    for pixel in range(len(image) // 3):
        k = _place(pixel)
        value = luma(image[k], image[k + _FIRST], image[k + _SECOND])
        image[k], image[k + _FIRST], image[k + _SECOND] = value, value, value


color_routines = {
    ColorKind.BRIGHTNESS: brightness,
    ColorKind.CONTRAST: contrast,
    ColorKind.SATURATION: saturation,
    ColorKind.HLS: hls_shift,
    ColorKind.SHIFT: shift_channels,
    ColorKind.GRAY: make_gray,
}
"""By kind, the `Routine` that changes the colours of a picture."""


def _color_kinds(table, count):
    """Which kinds of colour steps the `count` STEP rows at address `table` have, as bits."""
    kinds, rows = np.int64(0), array_at(table, count, STEP)
    for k in range(count):
        row = rows[k]
        if row.color != 0 and row.kind != StepKind.SKIP:
            steps = array_at(row.color, row.color_count, COLOR_STEP)
            for j in range(row.color_count):
                kinds |= np.int64(1) << steps[j].kind
    return kinds


color_kinds = Routine(_color_kinds, types.int64(types.uint64, types.int64), nogil=False)


def color_image(image, steps):
    """Change the colours of a picture in place, step by step, in the calling thread.

    Args:
        image: (H * W * 3,) uint8 RGB, overwritten.
        steps: (K,) COLOR_STEP, in the order in which they apply.
    """
    for k, kind in enumerate(steps["kind"].tolist()):
        if kind != ColorKind.NONE:
            at = steps.ctypes.data + k * steps.strides[0]
            color_routines[ColorKind(kind)](image.ctypes.data, len(image), at)
