"""Samples of pictures that are decoded to a half, a quarter or an eighth of their size.

They are made by a routine of its own, which is compiled where a plan wants such pictures.
"""

from __future__ import annotations

from numba import types

from gpuio.kernels.jpeg.entropy import IN_CORNER
from gpuio.kernels.jpeg.vector import (
    mean_samples,
    square_2_of_8,
    square_4_of_1,
    square_4_of_4,
    square_4_of_8,
)
from gpuio.kernels.routine import Routine


def _reduced_samples(coefficients, last, quantisation, out, pitch, size):
    """Make 4 x 4, 2 x 2 or one sample of each of `BLOCKS` blocks.

    Args:
        coefficients: As for `vector.samples_of_8`.
        last: The last coefficient in use, as they are coded.
        quantisation: As for `vector.samples_of_8`.
        out: Address of `size` rows of size * BLOCKS uint8.
        pitch: Bytes between these rows.
        size: 4, 2 or 1.

    Returns:
        As `vector.samples_of_8`.
    """
    if size == 1:
        return mean_samples(coefficients, quantisation, out)
    if size == 2:
        return square_2_of_8(coefficients, quantisation, out, pitch)
    if last == 0:
        return square_4_of_1(coefficients, quantisation, out, pitch)
    if last <= IN_CORNER:
        return square_4_of_4(coefficients, quantisation, out, pitch)
    return square_4_of_8(coefficients, quantisation, out, pitch)


reduced_samples = Routine(_reduced_samples, types.int64(*[types.int64] * 6))
"""Its address is `JOB.reduced` where `JOB.scale` is not 8."""
