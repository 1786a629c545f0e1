"""The inverse DCT of libjpeg's "slow integer" method, as its vector code computes it.

Along each axis it is the method of Loeffler, Ligtenberg and Moschytz with constants of 13 bits.
libjpeg-turbo's SSE2 and AVX2 code adds some pairs of inputs in 16 bits, which wrap around, and
saturates the results of both passes to 16 bits; in pictures that an encoder has made neither
happens, and damaged ones get the same pixels here too.

Pictures of half or quarter size have 4 or 2 samples for the 8 of an axis, which are their means by
twos or fours. Coefficients that cancel out in these are not used.

Source: C. Loeffler, A. Ligtenberg, G. Moschytz, "Practical Fast 1-D DCT Algorithms with 11
Multiplications", ICASSP 1989; libjpeg-turbo 3, jidctint.c, jidctred.c,
simd/x86_64/jidctint-avx2.asm.
"""

from __future__ import annotations

CONST_BITS, PASS1_BITS = 13, 2
COLUMN_SHIFT = CONST_BITS - PASS1_BITS
"""Bits that are rounded away behind the first pass."""
ROW_SHIFT = CONST_BITS + PASS1_BITS + 3
"""Bits that are rounded away behind the second pass."""


def _constant(value):
    return round(value * (1 << CONST_BITS))


_C0_211, _C0_509, _C0_601 = map(_constant, (0.211164243, 0.509795579, 0.601344887))
_C0_720, _C0_850, _C1_061 = map(_constant, (0.720959822, 0.850430095, 1.061594337))
_C1_272, _C1_451, _C2_172 = map(_constant, (1.272758580, 1.451774981, 2.172734803))
_C3_624 = _constant(3.624509785)
_C0_298, _C0_390, _C0_541 = map(_constant, (0.298631336, 0.390180644, 0.541196100))
_C0_765, _C0_899, _C1_175 = map(_constant, (0.765366865, 0.899976223, 1.175875602))
_C1_501, _C1_847, _C1_961 = map(_constant, (1.501321110, 1.847759065, 1.961570560))
_C2_053, _C2_562, _C3_072 = map(_constant, (2.053119869, 2.562915447, 3.072711026))


def inverse_dct_pass(c, shift):
    """One pass, along one axis of blocks.

    Args:
        c: Eight vectors of int16, the coefficients of growing frequency, with the arithmetic of
            `kernels.jpeg.vector.Lanes`.
        shift: COLUMN_SHIFT or ROW_SHIFT.

    Returns:
        Eight vectors of int16, the samples along the axis.
    """
    odd = [c[k].as_int32() for k in (1, 3, 5, 7)]
    z2, z3 = c[2].as_int32(), c[6].as_int32()
    z1 = (z2 + z3) * _C0_541
    tmp2, tmp3 = z1 - z3 * _C1_847, z1 + z2 * _C0_765
    tmp0 = (c[0] + c[4]).as_int32() << CONST_BITS
    tmp1 = (c[0] - c[4]).as_int32() << CONST_BITS
    even = tmp0 + tmp3, tmp1 + tmp2, tmp1 - tmp2, tmp0 - tmp3

    tmp3, tmp2, tmp1, tmp0 = odd
    z1, z2 = tmp0 + tmp3, tmp1 + tmp2
    z3, z4 = (c[7] + c[3]).as_int32(), (c[5] + c[1]).as_int32()
    z5 = (z3 + z4) * _C1_175
    z1, z2 = z1 * -_C0_899, z2 * -_C2_562
    z3, z4 = z3 * -_C1_961 + z5, z4 * -_C0_390 + z5
    tmp0 = tmp0 * _C0_298 + z1 + z3
    tmp1 = tmp1 * _C2_053 + z2 + z4
    tmp2 = tmp2 * _C3_072 + z2 + z3
    tmp3 = tmp3 * _C1_501 + z1 + z4
    odd = tmp3, tmp2, tmp1, tmp0

    return [v.saturated() for v in _rounded(list(zip(even, odd, strict=True)), shift)]


def pass_to_4(c, shift):
    """As `inverse_dct_pass`, to four samples; `c[4]` is not used."""
    even = c[0].as_int32() << (CONST_BITS + 1)
    turn = c[2].as_int32() * _C1_847 - c[6].as_int32() * _C0_765
    c1, c3, c5, c7 = (c[k].as_int32() for k in (1, 3, 5, 7))
    inner = c7 * -_C0_211 + c5 * _C1_451 - c3 * _C2_172 + c1 * _C1_061
    outer = c7 * -_C0_509 - c5 * _C0_601 + c3 * _C0_899 + c1 * _C2_562
    parts = (even + turn, outer), (even - turn, inner)
    return [v.saturated() for v in _rounded(parts, shift + 1)]


def pass_to_2(c, shift):
    """As `inverse_dct_pass`, to two samples of int32; `c[2]`, `c[4]` and `c[6]` are not used.

    Results are not saturated; those that are odd coefficients of the second pass are there.
    """
    even = c[0].as_int32() << (CONST_BITS + 2)
    c1, c3, c5, c7 = (c[k].saturated().as_int32() for k in (1, 3, 5, 7))
    odd = c7 * -_C0_720 + c5 * _C0_850 - c3 * _C1_272 + c1 * _C3_624
    return _rounded(((even, odd),), shift + 2)


def _rounded(parts, shift):
    """Samples of pairs of an even and an odd part, which are those of both halves of an axis."""
    half = 1 << (shift - 1)
    values = [*(a + b for a, b in parts), *(a - b for a, b in reversed(parts))]
    return [(v + half) >> shift for v in values]
