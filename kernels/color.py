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
    """Hue in half degrees, lightness and saturation in levels.

    Without a branch, so that loops over pixels become vectors.
    """
    unit = _F32(1) / _F32(255)
    r, g, b = times(_F32(red), unit), times(_F32(green), unit), times(_F32(blue), unit)
    high, low = max(r, g, b), min(r, g, b)
    delta, total = high - low, high + low
    light = times(total, _F32(0.5))
    colored = delta > _EPSILON
    range_ = total if light < _F32(0.5) else _F32(2) - total
    s = delta / (range_ if colored else _F32(1))
    scale = _F32(60) / (delta if colored else _F32(1))
    ahead = (g - b) if high == r else ((b - r) if high == g else (r - g))
    turn = _F32(0) if high == r else (_F32(120) if high == g else _F32(240))
    h = times(ahead, scale) + turn
    h = h + _F32(360) if h < _F32(0) else h
    h = h if colored else _F32(0)
    s = s if colored else _F32(0)
    return level(times(h, _F32(0.5))), level(times(light, _F32(255))), level(times(s, _F32(255)))


@njit(inline="always")
def _from_hls(hue, lightness, saturation):
    """Red, green and blue of `_to_hls`."""
    unit = _F32(1) / _F32(255)
    light, s = times(_F32(lightness), unit), times(_F32(saturation), unit)
    upper = times(light, _F32(1) + s) if light <= _F32(0.5) else light + s - times(light, s)
    p2 = light if saturation == 0 else upper
    p1 = light if saturation == 0 else times(_F32(2), light) - p2
    h6 = times(_F32(hue), _F32(6) / _F32(180))
    h6 = h6 - _F32(6) if h6 >= _F32(6) else h6
    sector = _I32(h6)
    f = h6 - _F32(sector)
    down, up = p1 + times(p2 - p1, _F32(1) - f), p1 + times(p2 - p1, f)
    # Each channel is at the top for two of six sectors, falls, is at the bottom for two, rises.
    red = p2 if sector == 0 or sector == 5 else p1
    red = down if sector == 1 else (up if sector == 4 else red)
    green = p2 if sector == 1 or sector == 2 else p1
    green = down if sector == 3 else (up if sector == 0 else green)
    blue = p2 if sector == 3 or sector == 4 else p1
    blue = down if sector == 5 else (up if sector == 2 else blue)
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


# Places in an image are unsigned: Numba would look for negative ones, and loops stay no vectors.
_FIRST, _SECOND = np.uint32(1), np.uint32(2)


@njit(inline="always")
def _place(pixel):
    return np.uint32(3 * pixel)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def brightness(image, factor):
    """Every value times `factor`."""
    for k in range(len(image)):
        image[k] = scaled(image[k], factor, _F32(0))


@njit(nogil=True, error_model="numpy", boundscheck=False)
def contrast(image, factor):
    """Every value times `factor`, plus what keeps the mean gray of the image where it is."""
    total, count = np.int64(0), len(image) // 3
    for pixel in range(count):
        k = _place(pixel)
        total += gray_of(image[k], image[k + _FIRST], image[k + _SECOND])
    rest = times(_F32(1) - factor, mean_level(_U64(total), _U64(count)))
    for k in range(len(image)):
        image[k] = scaled(image[k], factor, rest)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def saturation(image, factor):
    """Every value times `factor`, plus the rest of its pixel's gray."""
    rest = _F32(1) - factor
    for pixel in range(len(image) // 3):
        k = _place(pixel)
        red, green, blue = image[k], image[k + _FIRST], image[k + _SECOND]
        gray = times(_F32(gray_of(red, green, blue)), rest)
        image[k] = scaled(red, factor, gray)
        image[k + _FIRST] = scaled(green, factor, gray)
        image[k + _SECOND] = scaled(blue, factor, gray)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def lighting(image, red, green, blue):
    """A shift for each channel; the sum is cut to a whole number."""
    for pixel in range(len(image) // 3):
        k = _place(pixel)
        image[k] = moved(image[k], red)
        image[k + _FIRST] = moved(image[k + _FIRST], green)
        image[k + _SECOND] = moved(image[k + _SECOND], blue)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def hls_shift(image, hue, lightness, satur):
    """Shifts of hue, lightness and saturation, each clamped: 0..180, 0..255, 0..255."""
    for pixel in range(len(image) // 3):
        k = _place(pixel)
        red, green, blue = hls_moved(
            image[k], image[k + _FIRST], image[k + _SECOND], hue, lightness, satur
        )
        image[k], image[k + _FIRST], image[k + _SECOND] = red, green, blue


@njit(nogil=True, error_model="numpy", boundscheck=False)
def make_gray(image):
    """All channels 0.21 R + 0.72 G + 0.07 B, rounded."""
    for pixel in range(len(image) // 3):
        k = _place(pixel)
        value = luma(image[k], image[k + _FIRST], image[k + _SECOND])
        image[k], image[k + _FIRST], image[k + _SECOND] = value, value, value


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
