"""The arithmetic of every kernel: scalars in, scalars out, the same bits on every device.

These functions compute one value of a result. The loops over rows and threads are elsewhere: the
CPU's in resize.py, warp.py, blur.py and output.py, CUDA's in device.py. A float32 product that
feeds a sum is made by `mul_rn`, as CUDA would round the two only once; nothing is of double
precision, which GPUs for training are slow at.

Source of the formulas: OpenCV 3.4, modules/imgproc/src/resize.cpp and imgwarp.cpp, which MXNet
1.9.1 bundles.
"""

from __future__ import annotations

import numpy as np
from numba import types

from gpuio.kernels.native import bits, device_function, mul_rn

_F32, _I32, _I64, _U32 = np.float32, np.int32, np.int64, np.uint32
_INT, _LONG, _FLOAT = types.int32, types.int64, types.float32
_WHOLE = np.float32(12582912)  # 1.5 * 2**23: float32 near it have no fraction
_CUBIC_UNIT = np.float32(1.0 / (2048.0 * 2048.0))
FAR = 2**30
"""A place outside of any picture, in 1/1024 pixels."""


@device_function(_FLOAT(_FLOAT))
def nearest(value):
    """The nearest whole number to a float32 below 2**22, halves to even; larger ones stay large."""
    return (value + _WHOLE) - _WHOLE


@device_function(_INT(_INT))
def saturate(value):
    """An int32, cut to 0 to 255."""
    return min(max(value, _I32(0)), _I32(255))


@device_function(_INT(_FLOAT))
def level(value):
    """float32 to int32: the nearest level, halves to even, cut to 0 to 255."""
    return _I32(min(max(nearest(value), _F32(0)), _F32(255)))


@device_function(_INT(*[_INT] * 4))
def linear_across(a, b, u, v):
    """Two levels along x with int32 weights in 1/2048, less the four lowest bits."""
    return _I32(_I32(_I32(a) * u + _I32(b) * v) >> 4)


@device_function(_INT(*[_INT] * 4))
def linear_down(upper, lower, u, v):
    """Two results of `linear_across` along y; a level."""
    total = (_I32(_I32(upper) * u) >> 16) + (_I32(_I32(lower) * v) >> 16)
    return _I32(_I32(total + 2) >> 2)


@device_function(_INT(_INT, _INT))
def fixed_term(value, weight):
    """What a level, or a row's sum, adds to a sum with int32 weights in 1/2048.

    Sums along both axes fit in 32 bits for every kind: those of Lanczos are up to 0.983 * 2**31.
    """
    return _I32(_I32(value) * weight)


@device_function(_INT(_INT))
def fixed_level(total):
    """A sum of `fixed_term`s along both axes, as int32, to a level."""
    return saturate(_I32((total + _I32(2097152)) >> _I32(22)))


@device_function(_FLOAT(_INT))
def cubic_weight(weight):
    """An int32 in 1/2048 along y, as the float32 that `cubic_term` takes."""
    return _F32(weight) * _CUBIC_UNIT


@device_function(_FLOAT(_INT, _FLOAT))
def cubic_term(value, weight):
    """What a row resized along x, in 1/2048, adds to a cubic level."""
    return mul_rn(_F32(value), weight)


@device_function(_INT(_INT))
def cubic_vector(whole):
    """How many values of a row of `whole` OpenCV's vector code computes, in float32."""
    return whole // 8 * 8


@device_function(types.boolean(*[_INT] * 3, types.boolean))
def in_cubic_vector(at, whole, channels, in_order):
    """Whether value `at` of a row is one of `cubic_vector`; the rest are integers' work.

    OpenCV has the colours of MXNet's iterators as blue, green, red; `in_order` says that it has
    them as they are here.
    """
    vector = cubic_vector(whole)
    split = 0 if in_order else vector % channels
    if at < vector - split:
        return True
    return at < vector - split + channels and at % channels >= channels - split


@device_function(_FLOAT(_FLOAT, _FLOAT))
def area_term(value, weight):
    """What a level, or a row's sum, adds to an area average; the weight is float32."""
    return mul_rn(_F32(value), weight)


@device_function(_INT(*[_INT] * 3, _FLOAT), _INT(_LONG, _INT, _INT, _FLOAT))
def block_level(total, height, width, reciprocal):
    """The mean level of a block.

    Args:
        total: Sum of its levels.
        height: Height of the block, in pixels.
        width: Width of the block, in pixels.
        reciprocal: `block_reciprocal` of these two.
    """
    if height == 2 and width == 2:
        return _I32((total + 2) >> 2)
    return saturate(_I32(nearest(mul_rn(_F32(total), reciprocal))))


@device_function(_FLOAT(_INT, _INT))
def block_reciprocal(height, width):
    """1 / (height * width), in float32."""
    return _F32(1) / _F32(height * width)


@device_function(_LONG(_LONG, _LONG), _INT(_INT, _INT))
def mirrored(place, count):
    """A place from 0 to count - 1 for any whole number: those outside are mirrored.

    The mirrors are the outermost pixels: 2 1 0 1 2 ..., as in mode "reflect" of `numpy.pad`.
    """
    last = count - 1
    while (place < 0 or place > last) and last > 0:
        place = -place if place < 0 else 2 * last - place
    return place if last > 0 else last


@device_function(_INT(_INT))
def warp_fraction(place):
    """The fraction, in 1/32 pixels, of a place in 1/1024 pixels."""
    return (place >> 5) & 31


@device_function(_INT(*[_INT] * 6))
def warp_linear_level(a, b, c, d, fx, fy):
    """Four levels at a place: left and right above, left and right below; fractions in 1/32."""
    upper = _I32(_I32(a) * _I32(32 - fx) + _I32(b) * fx)
    lower = _I32(_I32(c) * _I32(32 - fx) + _I32(d) * fx)
    return _I32(_I32(upper * _I32(32 - fy) + lower * fy + 512) >> 10)


@device_function(_INT(_INT))
def warp_level(total):
    """A sum of levels with weights in 1/32768, as int32, to a level."""
    return saturate(_I32((total + _I32(16384)) >> _I32(15)))


@device_function(_FLOAT(_INT, *[_FLOAT] * 3))
def normalized(value, mean, gain, bias):
    """A level as float32, rounded after each operation."""
    return mul_rn(_F32(value) - mean, gain) + bias


@device_function(_INT(_INT, _FLOAT))
def shifted(value, mean):
    """A level less a whole mean, cut to what int8 holds, as int32."""
    return _I32(min(max(_F32(value) - mean, _F32(-128)), _F32(127)))


@device_function(types.uint16(_FLOAT))
def float16_bits(value):
    """The bits of the nearest binary16, ties to even; what is out of range becomes infinite.

    A NaN is 0x7FFF, as CUDA has it.
    """
    word = bits(value)
    sign = (word >> _U32(16)) & _U32(0x8000)
    word &= _U32(0x7FFFFFFF)
    even = (word >> _U32(13)) & _U32(1)
    half = (_I64(word) - 0x37FFF001 + _I64(even)) >> 13
    tiny = _I64(bits(abs(value) + _F32(0.5))) - 0x3F000000
    half = tiny if word < _U32(0x38800000) else half
    half = 0x7C00 if word >= _U32(0x477FF000) else half
    half |= _I64(sign)
    return np.uint16(0x7FFF if word > _U32(0x7F800000) else half)


@device_function(types.uint16(_FLOAT))
def bfloat16_bits(value):
    """The bits of the nearest bfloat16, ties to even: the upper half of a float32's.

    A NaN is 0x7FFF, as CUDA has it.
    """
    word = bits(value)
    even = (word >> _U32(16)) & _U32(1)
    upper = (_I64(word) + 0x7FFF + _I64(even)) >> 16
    upper = 0x7FFF if (word & _U32(0x7FFFFFFF)) > _U32(0x7F800000) else upper
    return np.uint16(upper)
