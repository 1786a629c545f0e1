"""Colour augmentations of one cropped RGB image, in place, each rounding to uint8 as MXNet's do.

First what becomes of one pixel, on every device, then the CPU's loops; those of CUDA are in
device.py.

Source: MXNet 1.9.1, src/io/image_aug_default.cc; OpenCV 3.4, modules/imgproc/src/color_hsv.cpp.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from gpuio.kernels.native import times
from gpuio.kernels.stages import level

COLOR = np.dtype(
    [
        ("jitter", np.int32),  # whether the next four apply
        ("order", np.int32),  # 0 to 5: which permutation of brightness, contrast, saturation
        ("brightness", np.float32),
        ("contrast", np.float32),
        ("saturation", np.float32),
        ("hls", np.int32),  # whether the next three apply
        ("hue", np.int32),  # added, in half degrees
        ("lightness", np.int32),  # added, in levels
        ("color_saturation", np.int32),  # added, in levels
        ("lighting", np.int32),  # whether the next three apply
        ("red", np.float32),  # added, in levels
        ("green", np.float32),
        ("blue", np.float32),
        ("gray", np.int32),  # whether the picture becomes gray
        ("multiply", np.int32),  # whether the next one applies, right after hue and its like
        ("factor", np.float32),
    ],
    align=True,
)

ORDERS = np.array([[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]], np.int32)
BRIGHTNESS, CONTRAST, SATURATION = range(3)
"""What ORDERS speaks of."""

_F32, _I32, _U64 = np.float32, np.int32, np.uint64
_EPSILON = np.float32(1.1920929e-7)


@njit(inline="always")
def scaled(value, factor, rest):
    """A level times `factor`, plus `rest`."""
    return level(times(_F32(value), factor) + rest)


@njit(inline="always")
def gray_of(red, green, blue):
    """MXNet's gray: a formula for RGB applied to BGR, so red and blue change their weights."""
    return (4899 * _I32(blue) + 9617 * _I32(green) + 1868 * _I32(red) + 8192) >> 14


@njit(inline="always")
def moved(value, shift):
    """A level plus `shift`, cut to a whole number."""
    return _I32(min(max(_F32(value) + shift, _F32(0)), _F32(255)))


@njit(inline="always")
def luma(red, green, blue):
    """The level 0.21 R + 0.72 G + 0.07 B."""
    total = times(_F32(0.21), _F32(red)) + times(_F32(0.72), _F32(green))
    return level(total + times(_F32(0.07), _F32(blue)))


@njit(inline="always")
def mean_level(total, count):
    """float32 nearest to total / count, ties to even, by integers alone.

    It is float32(float64(total) / float64(count)) for all that a picture can hold: the two could
    differ from 2**28 pixels on.

    Args:
        total: uint64, at most 255 * count.
        count: uint64, 1 to 2**32.
    """
    if total == _U64(0):
        return _F32(0)
    unit = _F32(2)
    while total < count << _U64(24):
        total = total << _U64(1)
        unit = times(unit, _F32(0.5))
    twice = total // count  # 25 bits, of which 24 are kept
    rest = total - twice * count
    kept = twice >> _U64(1)
    if (twice & _U64(1)) != _U64(0) and (rest != _U64(0) or (kept & _U64(1)) != _U64(0)):
        kept = kept + _U64(1)
    return times(_F32(kept), unit)


@njit(inline="always")
def _to_hls(red, green, blue):
    """Hue in half degrees, lightness and saturation in levels."""
    unit = _F32(1) / _F32(255)
    r, g, b = times(_F32(red), unit), times(_F32(green), unit), times(_F32(blue), unit)
    high, low = max(r, g, b), min(r, g, b)
    delta, total = high - low, high + low
    light = times(total, _F32(0.5))
    h, s = _F32(0), _F32(0)
    if delta > _EPSILON:
        s = delta / total if light < _F32(0.5) else delta / (_F32(2) - total)
        scale = _F32(60) / delta
        if high == r:
            h = times(g - b, scale)
        elif high == g:
            h = times(b - r, scale) + _F32(120)
        else:
            h = times(r - g, scale) + _F32(240)
        if h < _F32(0):
            h += _F32(360)
    return level(times(h, _F32(0.5))), level(times(light, _F32(255))), level(times(s, _F32(255)))


@njit(inline="always")
def _from_hls(hue, lightness, saturation):
    """Red, green and blue of `_to_hls`."""
    unit = _F32(1) / _F32(255)
    light, s = times(_F32(lightness), unit), times(_F32(saturation), unit)
    if saturation == 0:
        red, green, blue = light, light, light
    else:
        product = times(light, s)
        p2 = times(light, _F32(1) + s) if light <= _F32(0.5) else light + s - product
        p1 = times(_F32(2), light) - p2
        h6 = times(_F32(hue), _F32(6) / _F32(180))
        if h6 >= _F32(6):
            h6 -= _F32(6)
        sector = _I32(h6)
        f = h6 - _F32(sector)
        down, up = p1 + times(p2 - p1, _F32(1) - f), p1 + times(p2 - p1, f)
        if sector == 0:
            red, green, blue = p2, up, p1
        elif sector == 1:
            red, green, blue = down, p2, p1
        elif sector == 2:
            red, green, blue = p1, p2, up
        elif sector == 3:
            red, green, blue = p1, down, p2
        elif sector == 4:
            red, green, blue = up, p1, p2
        else:
            red, green, blue = p2, p1, down
    return (
        level(times(red, _F32(255))),
        level(times(green, _F32(255))),
        level(times(blue, _F32(255))),
    )


@njit(inline="always")
def hls_moved(red, green, blue, hue, lightness, saturation):
    """A pixel with hue, lightness and saturation shifted, each clamped: 0..180, 0..255, 0..255."""
    half_degrees, light, satur = _to_hls(red, green, blue)
    return _from_hls(
        min(max(half_degrees + hue, 0), 180),
        min(max(light + lightness, 0), 255),
        min(max(satur + saturation, 0), 255),
    )


@njit(inline="always")
def _gray(image, k):
    at = np.uint32(k)
    return gray_of(image[at], image[at + np.uint32(1)], image[at + np.uint32(2)])


@njit(nogil=True, error_model="numpy", boundscheck=False)
def brightness(image, factor):
    """Every value times `factor`."""
    for k in range(len(image)):
        image[k] = scaled(image[k], factor, _F32(0))


@njit(nogil=True, error_model="numpy", boundscheck=False)
def contrast(image, factor):
    """Every value times `factor`, plus what keeps the mean gray of the image where it is."""
    total = np.int64(0)
    for k in range(0, len(image), 3):
        total += _gray(image, k)
    rest = times(_F32(1) - factor, mean_level(_U64(total), _U64(len(image) // 3)))
    for k in range(len(image)):
        image[k] = scaled(image[k], factor, rest)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def saturation(image, factor):
    """Every value times `factor`, plus the rest of its pixel's gray."""
    rest = _F32(1) - factor
    for pixel in range(len(image) // 3):
        gray = times(_F32(_gray(image, 3 * pixel)), rest)
        for c in range(3):
            at = np.uint32(3 * pixel + c)
            image[at] = scaled(image[at], factor, gray)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def lighting(image, red, green, blue):
    """A shift for each channel; the sum is cut to a whole number."""
    for k in range(0, len(image), 3):
        image[k] = moved(image[k], red)
        image[k + 1] = moved(image[k + 1], green)
        image[k + 2] = moved(image[k + 2], blue)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def hls_shift(image, hue, lightness, satur):
    """Shifts of hue, lightness and saturation, each clamped: 0..180, 0..255, 0..255."""
    for k in range(0, len(image), 3):
        pixel = hls_moved(image[k], image[k + 1], image[k + 2], hue, lightness, satur)
        image[k], image[k + 1], image[k + 2] = pixel


@njit(nogil=True, error_model="numpy", boundscheck=False)
def make_gray(image):
    """All channels 0.21 R + 0.72 G + 0.07 B, rounded."""
    for k in range(0, len(image), 3):
        value = luma(image[k], image[k + 1], image[k + 2])
        image[k], image[k + 1], image[k + 2] = value, value, value


@njit(nogil=True, error_model="numpy", boundscheck=False)
def color_image(image, row):
    """Everything that a COLOR row says, in MXNet's order.

    Args:
        image: (H * W * 3,) uint8 RGB, changed in place.
        row: A COLOR record.
    """
    if row.jitter != 0:
        for place in range(3):
            which = ORDERS[row.order, place]
            if which == BRIGHTNESS:
                brightness(image, row.brightness)
            elif which == CONTRAST:
                contrast(image, row.contrast)
            else:
                saturation(image, row.saturation)
    if row.hls != 0:
        hls_shift(image, row.hue, row.lightness, row.color_saturation)
    if row.multiply != 0:
        brightness(image, row.factor)
    if row.lighting != 0:
        lighting(image, row.red, row.green, row.blue)
    if row.gray != 0:
        make_gray(image)
