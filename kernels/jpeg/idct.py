"""The inverse DCT of libjpeg's "slow integer" method, as its vector code computes it.

Along each axis it is the method of Loeffler, Ligtenberg and Moschytz with constants of 13 bits.
libjpeg-turbo's SSE2 and AVX2 code adds some pairs of inputs in 16 bits, which wrap around, and
saturates the results of both passes to 16 bits; in pictures that an encoder has made neither
happens, and damaged ones get the same pixels here too.

Source: C. Loeffler, A. Ligtenberg, G. Moschytz, "Practical Fast 1-D DCT Algorithms with 11
Multiplications", ICASSP 1989; libjpeg-turbo 3, jidctint.c, simd/x86_64/jidctint-avx2.asm.
"""

from __future__ import annotations

CONST_BITS, PASS1_BITS = 13, 2
COLUMN_SHIFT = CONST_BITS - PASS1_BITS
"""Bits that are rounded away behind the first pass."""
ROW_SHIFT = CONST_BITS + PASS1_BITS + 3
"""Bits that are rounded away behind the second pass."""


def _constant(value):
    return round(value * (1 << CONST_BITS))


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

    half = 1 << (shift - 1)
    sums = [a + b for a, b in zip(even, odd, strict=True)]
    differences = [a - b for a, b in zip(even, odd, strict=True)]
    return [((v + half) >> shift).saturated() for v in (*sums, *reversed(differences))]
