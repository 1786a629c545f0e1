"""Colour augmentations of one cropped RGB image, in place, each rounding to uint8 as MXNet's do.

Source: MXNet 1.9.1, src/io/image_aug_default.cc; OpenCV 3.4, modules/imgproc/src/color_hsv.cpp.
"""

from __future__ import annotations

import numpy as np
from numba import njit

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
_F32 = np.float32
_EPSILON = np.float32(1.1920929e-7)


@njit(inline="always")
def _level(value):
    """float32 to uint8: the nearest level, halves to even, clamped."""
    return np.uint8(min(max(np.rint(value), _F32(0)), _F32(255)))


@njit(inline="always")
def _gray(image, k):
    """MXNet's gray: a formula for RGB applied to BGR, so red and blue change their weights."""
    at = np.uint32(k)
    red, green = np.int32(image[at]), np.int32(image[at + np.uint32(1)])
    blue = np.int32(image[at + np.uint32(2)])
    return (4899 * blue + 9617 * green + 1868 * red + 8192) >> 14


@njit(nogil=True, error_model="numpy", boundscheck=False)
def brightness(image, factor):
    """Every value times `factor`."""
    for k in range(len(image)):
        image[k] = _level(_F32(image[k]) * factor)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def contrast(image, factor):
    """Every value times `factor`, plus what keeps the mean gray of the image where it is."""
    total = np.int64(0)
    for k in range(0, len(image), 3):
        total += _gray(image, k)
    rest = (_F32(1) - factor) * _F32(np.float64(total) / np.float64(len(image) // 3))
    for k in range(len(image)):
        image[k] = _level(_F32(image[k]) * factor + rest)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def saturation(image, factor):
    """Every value times `factor`, plus the rest of its pixel's gray."""
    rest = _F32(1) - factor
    for pixel in range(len(image) // 3):
        gray = _F32(_gray(image, 3 * pixel)) * rest
        for c in range(3):
            at = np.uint32(3 * pixel + c)
            image[at] = _level(_F32(image[at]) * factor + gray)


@njit(nogil=True, error_model="numpy", boundscheck=False)
def lighting(image, red, green, blue):
    """A shift for each channel; the sum is cut to a whole number."""
    for k in range(0, len(image), 3):
        image[k] = np.uint8(min(max(np.trunc(_F32(image[k]) + red), _F32(0)), _F32(255)))
        image[k + 1] = np.uint8(min(max(np.trunc(_F32(image[k + 1]) + green), _F32(0)), _F32(255)))
        image[k + 2] = np.uint8(min(max(np.trunc(_F32(image[k + 2]) + blue), _F32(0)), _F32(255)))


@njit(nogil=True, error_model="numpy", boundscheck=False)
def hls_shift(image, hue, lightness, satur):
    """Shifts of hue, lightness and saturation, each clamped: 0..180, 0..255, 0..255."""
    unit = _F32(1) / _F32(255)
    for k in range(0, len(image), 3):
        r, g, b = _F32(image[k]) * unit, _F32(image[k + 1]) * unit, _F32(image[k + 2]) * unit
        high, low = max(r, g, b), min(r, g, b)
        delta, total = high - low, high + low
        light = total * _F32(0.5)
        h, s = _F32(0), _F32(0)
        if delta > _EPSILON:
            s = delta / total if light < _F32(0.5) else delta / (_F32(2) - total)
            scale = _F32(60) / delta
            if high == r:
                h = (g - b) * scale
            elif high == g:
                h = (b - r) * scale + _F32(120)
            else:
                h = (r - g) * scale + _F32(240)
            if h < _F32(0):
                h += _F32(360)
        level_h = np.int32(_level(h * _F32(0.5)))
        level_l, level_s = np.int32(_level(light * _F32(255))), np.int32(_level(s * _F32(255)))
        level_h = min(max(level_h + hue, 0), 180)
        level_l = min(max(level_l + lightness, 0), 255)
        level_s = min(max(level_s + satur, 0), 255)
        light, s = _F32(level_l) * unit, _F32(level_s) * unit
        if level_s == 0:
            red, green, blue = light, light, light
        else:
            p2 = light * (_F32(1) + s) if light <= _F32(0.5) else light + s - light * s
            p1 = _F32(2) * light - p2
            h6 = _F32(level_h) * (_F32(6) / _F32(180))
            if h6 >= _F32(6):
                h6 -= _F32(6)
            sector = np.int32(h6)
            f = h6 - _F32(sector)
            down, up = p1 + (p2 - p1) * (_F32(1) - f), p1 + (p2 - p1) * f
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
        image[k] = _level(red * _F32(255))
        image[k + 1] = _level(green * _F32(255))
        image[k + 2] = _level(blue * _F32(255))


@njit(nogil=True, error_model="numpy", boundscheck=False)
def make_gray(image):
    """All channels 0.21 R + 0.72 G + 0.07 B, rounded."""
    for k in range(0, len(image), 3):
        value = _F32(0.21) * _F32(image[k]) + _F32(0.72) * _F32(image[k + 1])
        level = _level(value + _F32(0.07) * _F32(image[k + 2]))
        image[k], image[k + 1], image[k + 2] = level, level, level


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
            if which == 0:
                brightness(image, row.brightness)
            elif which == 1:
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
