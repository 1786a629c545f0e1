"""What colour steps make of a pixel on every device, each rounding to uint8 as MXNet's do.

The loops over pictures are in color_steps.py for the CPU, and in device_color.py for CUDA. Which
steps there are, `ColorKind` of steps.py says.

Source: MXNet 1.9.1, src/io/image_aug_default.cc; OpenCV 3.4, modules/imgproc/src/color_hsv.cpp.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.arithmetic import level
from gpuio.kernels.native import device_function, mul_rn

_F32, _I32, _U64 = np.float32, np.int32, np.uint64
_INT, _LONG, _FLOAT = types.int32, types.int64, types.float32
_PIXEL = types.UniTuple(types.int32, 3)
_EPSILON = np.float32(1.1920929e-7)


@device_function(_INT(_INT, _FLOAT, _FLOAT))
def scaled(value, factor, rest):
    """A level times `factor`, plus `rest`."""
    return level(mul_rn(_F32(value), factor) + rest)


@device_function(_INT(*[_INT] * 3))
def gray_of(red, green, blue):
    """MXNet's gray: a formula for RGB applied to BGR, so red and blue change their weights."""
    total = _I32(_I32(4899 * _I32(blue)) + _I32(9617 * _I32(green)))
    return _I32(_I32(total + _I32(1868 * _I32(red)) + 8192) >> 14)


@device_function(_INT(_INT, _FLOAT))
def moved(value, shift):
    """A level plus `shift`, cut to a whole number."""
    return _I32(min(max(_F32(value) + shift, _F32(0)), _F32(255)))


@device_function(_INT(*[_INT] * 3))
def luma(red, green, blue):
    """The level 0.21 R + 0.72 G + 0.07 B."""
    total = mul_rn(_F32(0.21), _F32(red)) + mul_rn(_F32(0.72), _F32(green))
    return level(total + mul_rn(_F32(0.07), _F32(blue)))


@device_function(_FLOAT(types.uint64, types.uint64))
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
        unit = mul_rn(unit, _F32(0.5))
    twice = total // count  # 25 bits, of which 24 are kept
    rest = total - twice * count
    kept = twice >> _U64(1)
    if (twice & _U64(1)) != _U64(0) and (rest != _U64(0) or (kept & _U64(1)) != _U64(0)):
        kept = kept + _U64(1)
    return mul_rn(_F32(kept), unit)


@device_function(_PIXEL(*[_INT] * 3))
def _to_hls(red, green, blue):
    """Hue in half degrees, lightness and saturation in levels.

    Without a branch, so that loops over pixels become vectors.
    """
    unit = _F32(1) / _F32(255)
    r, g, b = mul_rn(_F32(red), unit), mul_rn(_F32(green), unit), mul_rn(_F32(blue), unit)
    high, low = max(r, g, b), min(r, g, b)
    delta, total = high - low, high + low
    light = mul_rn(total, _F32(0.5))
    colored = delta > _EPSILON
    range_ = total if light < _F32(0.5) else _F32(2) - total
    s = delta / (range_ if colored else _F32(1))
    scale = _F32(60) / (delta if colored else _F32(1))
    ahead = (g - b) if high == r else ((b - r) if high == g else (r - g))
    turn = _F32(0) if high == r else (_F32(120) if high == g else _F32(240))
    h = mul_rn(ahead, scale) + turn
    h = h + _F32(360) if h < _F32(0) else h
    h = h if colored else _F32(0)
    s = s if colored else _F32(0)
    return level(mul_rn(h, _F32(0.5))), level(mul_rn(light, _F32(255))), level(mul_rn(s, _F32(255)))


@device_function(_PIXEL(*[_INT] * 3))
def _from_hls(hue, lightness, saturation):
    """Red, green and blue of `_to_hls`."""
    unit = _F32(1) / _F32(255)
    light, s = mul_rn(_F32(lightness), unit), mul_rn(_F32(saturation), unit)
    upper = mul_rn(light, _F32(1) + s) if light <= _F32(0.5) else light + s - mul_rn(light, s)
    p2 = light if saturation == 0 else upper
    p1 = light if saturation == 0 else mul_rn(_F32(2), light) - p2
    h6 = mul_rn(_F32(hue), _F32(6) / _F32(180))
    h6 = h6 - _F32(6) if h6 >= _F32(6) else h6
    sector = _I32(h6)
    f = h6 - _F32(sector)
    down, up = p1 + mul_rn(p2 - p1, _F32(1) - f), p1 + mul_rn(p2 - p1, f)
    # Each channel is at the top for two of six sectors, falls, is at the bottom for two, rises.
    red = p2 if sector == 0 or sector == 5 else p1
    red = down if sector == 1 else (up if sector == 4 else red)
    green = p2 if sector == 1 or sector == 2 else p1
    green = down if sector == 3 else (up if sector == 0 else green)
    blue = p2 if sector == 3 or sector == 4 else p1
    blue = down if sector == 5 else (up if sector == 2 else blue)
    return (
        level(mul_rn(red, _F32(255))),
        level(mul_rn(green, _F32(255))),
        level(mul_rn(blue, _F32(255))),
    )


@device_function(_PIXEL(*[_INT] * 6))
def hls_moved(red, green, blue, hue, lightness, saturation):
    """A pixel with hue, lightness and saturation shifted, each clamped: 0..180, 0..255, 0..255."""
    half_degrees, light, satur = _to_hls(red, green, blue)
    return _from_hls(
        _I32(min(max(_I32(half_degrees + hue), _I32(0)), _I32(180))),
        _I32(min(max(_I32(light + lightness), _I32(0)), _I32(255))),
        _I32(min(max(_I32(satur + saturation), _I32(0)), _I32(255))),
    )
